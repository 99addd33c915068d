# Every target works alone in a fresh clone; `make` lists them.

PYTHON ?= python3
# Where the environment says so, no bytecode would be kept, and each process of a test would compile the package.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
DEMO_VENV := .venv-demo
LITERT_VENV := .venv-litert
ARGS ?=
# More than there are cores: many tests wait for a browser, a camera, a retry.
TEST_PROCESSES := $(shell echo $$(( $$(getconf _NPROCESSORS_ONLN) * 3 / 2 )))

PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SETTINGS := pyproject.toml constraints.txt
PACKAGE := $(shell find src -type f -not -name '*.pyc')
PAGE := src/maskwatch/serve/static/index.html
PAGE_SOURCES := $(shell find web -type f -not -path '*/node_modules/*')

.DEFAULT_GOAL := help
.PHONY: help setup check test litert demo docs page sync-client clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## make .venv with the package (editable) and the extras dev and tf

check: $(VENV)/.ready ## lint, formatting, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

test: check ## all checks, then all tests and their branch coverage; ARGS='-k voc' passes options to pytest
	$(VENV)/bin/pytest --numprocesses $(TEST_PROCESSES) --dist worksteal --cov --cov-report= $(ARGS)
	@echo "branch coverage: $$($(VENV)/bin/coverage report --format=total) %"

litert: $(LITERT_VENV)/.ready ## the tests that need the extra litert, which wants other versions than dev
	$(LITERT_VENV)/bin/pytest -p no:anyio tests/test_export_formats.py -k litert

demo: $(DEMO_VENV)/.ready ## install the base package alone and detect on examples/ into out/
	$(DEMO_VENV)/bin/maskwatch detect examples --out out --force

sync-client: $(VENV)/.ready ## make client/sync.py from client/async_client.py
	$(VENV)/bin/python tools/unasync_client.py

docs: $(VENV)/.ready ## build the documentation site into build/site
	$(VENV)/bin/python docs/build.py

page: $(PAGE) ## build the page of `maskwatch serve` into the package (needs Node.js)

clean: ## remove the environments and everything that was built or written
	rm -rf $(VENV) $(DEMO_VENV) $(LITERT_VENV) web/node_modules $(dir $(PAGE)) build dist out .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp file says that an environment is complete; a half-made one is made again.
$(VENV)/.ready: $(SETTINGS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[dev,tf]'
	@touch $@

$(LITERT_VENV)/.ready: pyproject.toml constraints-litert.txt
	$(PYTHON) -m venv $(LITERT_VENV)
	$(LITERT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-litert.txt \
		--editable '.[train,litert]' pytest pytest-cov pytest-xdist hypothesis
	@touch $@

# Not editable: what the demonstration runs is the wheel that others get.
$(DEMO_VENV)/.ready: $(SETTINGS) $(PACKAGE)
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP) .
	@touch $@

$(PAGE): web/node_modules/.package-lock.json $(PAGE_SOURCES)
	npm --prefix web run build

web/node_modules/.package-lock.json: web/package-lock.json
	npm --prefix web ci
	@touch $@
