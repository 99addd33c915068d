#!/bin/sh
# Installs the service from a checkout. The Dockerfile does it with this script; it works without Docker too.
#
#   deploy/install.sh page              builds the page into the package; needs Node and npm
#   deploy/install.sh package TARGET    makes the virtual environment TARGET with the service in it
#   deploy/install.sh check TARGET      looks for faces with what was installed
#
# PYTHON names the Python to take, else it is python3.
set -eu
cd "$(dirname "$0")/.."

usage() {
  sed -n '4,6s/^# *//p' "$0" >&2
  exit 2
}

build_page() {
  cd web
  npm ci --no-audit --no-fund
  npm run build
}

install_package() {
  "${PYTHON:-python3}" -m venv "$1"
  set -- "$1/bin/python" -m pip --disable-pip-version-check --no-input
  "$@" install --quiet --no-cache-dir --constraint constraints.txt '.[serve,live,postgres]'
  # A dependency asks for the OpenCV that opens windows, which needs libraries of a desktop. It lies in the same
  # folder as the one without, so that one has to be laid anew.
  if "$@" show --quiet opencv-python 2> /dev/null; then
    "$@" uninstall --quiet --yes opencv-python
    "$@" install --quiet --no-cache-dir --no-deps --force-reinstall --constraint constraints.txt \
      opencv-python-headless
  fi
}

check_package() {
  "$1/bin/maskwatch" --version
  "$1/bin/maskwatch" serve --help > /dev/null
  "$1/bin/maskwatch" detect examples/astronaut.jpg --json - 2> /dev/null | "$1/bin/python" -c "
import json, sys
from importlib.util import find_spec
(picture,) = json.load(sys.stdin)['results']
classes = [face['class'] for face in picture['detections']]
heavy = [name for name in ('torch', 'tensorflow') if find_spec(name)]
print('found', *classes)
raise SystemExit(f'found {classes}, brought {heavy}' if heavy or classes != ['no_mask'] else 0)"
}

case "${1:-}" in
  page) [ $# -eq 1 ] || usage; build_page ;;
  package) [ $# -eq 2 ] || usage; install_package "$2" ;;
  check) [ $# -eq 2 ] || usage; check_package "$2" ;;
  *) usage ;;
esac
