"""The `maskwatch` command: its verbs, exit codes and errors.

Exit codes: 0 all done; 1 done, with a result that a script should notice (docs/cli.md lists them); 2 stopped
by the error that is printed; 130 interrupted.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from maskwatch._version import __version__
from maskwatch.cli.bench import bench
from maskwatch.cli.data import data_app
from maskwatch.cli.detect import detect
from maskwatch.cli.diagnose import diagnose
from maskwatch.cli.evaluate import evaluate
from maskwatch.cli.events import events_app
from maskwatch.cli.export import export
from maskwatch.cli.improve import improve
from maskwatch.cli.label import label
from maskwatch.cli.models import models
from maskwatch.cli.options import PanelCommand
from maskwatch.cli.serve import serve
from maskwatch.cli.train import train
from maskwatch.cli.watch import watch
from maskwatch.cli.zones import zones
from maskwatch.errors import MaskwatchError, OptionError

FAILED = 2
INTERRUPTED = 130

app = typer.Typer(
    name="maskwatch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain lines, the same on a terminal and in a log
)
for verb in (detect, watch, serve, label, zones, train, evaluate, improve, diagnose, export, models, bench):
    app.command(cls=PanelCommand)(verb)
app.add_typer(data_app)
app.add_typer(events_app)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="--version: also what computes on this machine.")
    ] = False,
) -> None:
    """Find every face in a picture or a video and say whether it wears a mask."""
    if version:
        print(f"maskwatch {__version__}")
        if verbose:
            _print_backends()
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise OptionError("no command; see maskwatch --help")


def _print_backends() -> None:
    from maskwatch.runtimes.choice import chosen_backend, installed_backends, runtime_versions

    print(f"python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name, version in runtime_versions().items():
        print(f"{name} {version}")
    stored, backends = chosen_backend(), list(installed_backends())
    for backend in backends:
        print(f"{'takes' if backend == (stored or backends[0]) else 'also '} {backend}")
    if stored:
        print(f"stored by maskwatch bench --write: {stored}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits; `arguments` are those of the process by default."""
    _quiet_libraries()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # for names with letters that this terminal lacks
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=None if arguments is None else list(arguments), prog_name="maskwatch")
    except MaskwatchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ImportError as error:
        if "libGL" not in str(error):
            raise
        # The extra `live` installs the OpenCV with windows, which a server without a screen cannot load.
        command = "pip install --force-reinstall --no-deps opencv-python-headless"
        print(f"error: OpenCV cannot be loaded ({error}); run: {command}", file=sys.stderr)
        sys.exit(FAILED)


def _quiet_libraries() -> None:
    """Mutes the logs of libraries; Maskwatch reports broken files."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # TensorBoard imports an installed TensorFlow, which prints ten lines.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
