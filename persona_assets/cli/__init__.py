"""Command line `persona-assets`, with one module per group of commands."""

import os
import signal
import sys
from pathlib import Path

import typer

from persona_assets.checkpoints import CheckpointError
from persona_assets.cli import instance, measure
from persona_assets.cli.checkpoint import checkpoint_app
from persona_assets.cli.imports import import_app
from persona_assets.cli.study import study_app
from persona_assets.cli.watch import watch_app
from persona_assets.files.redaction import print_traceback, redact
from persona_assets.published.files import PublishedRunError
from persona_assets.store.artefacts import ArtefactError
from persona_assets.store.instance import InstanceError, explain_database_error
from persona_assets.store.locks import LockError
from persona_assets.store.shared import SharedStorageError
from persona_assets.study import StudyError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (measure.run, measure.status, measure.plan, instance.ui, instance.prune, instance.doctor):
    app.command()(command)
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(import_app, name="import")
app.add_typer(study_app, name="study")
app.add_typer(watch_app, name="watch")

# Errors whose message says what to do; they are printed without a traceback.
_OWN_ERRORS = (
    StudyError,
    CheckpointError,
    ArtefactError,
    InstanceError,
    LockError,
    PublishedRunError,
    SharedStorageError,
)
INTERRUPTED = 130  # what shells report for a command that was interrupted
WINDOWS = (
    "persona-assets runs on Linux and macOS, not on Windows; install it in WSL: `wsl --install`, then follow the "
    "README in its terminal"
)
# Matched by name, because the packages that define them are imported only where needed.
_IMPORTED_LATE = ("LeakageError", "NonFiniteError", "EngineError", "OutOfMemoryError", "SelfCheckError")


@app.callback()
def about() -> None:
    """Measure how a language model's personas differ: responses, Jensen–Shannon divergence, centroids, report.

    A study (YAML) defines what is measured, the registry lists the checkpoints, and Dagster computes the results.
    To start: `persona-assets run`, then `persona-assets ui`.
    """
    os.environ.setdefault("DAGSTER_HOME", str(Path("dagster_home").absolute()))
    os.umask(os.umask(0o022) | 0o002)  # never create world-writable files
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)


def main() -> None:
    """Run the command; print the project's own errors without a traceback, and redact secrets in all errors."""
    if sys.platform == "win32":
        sys.exit(WINDOWS)
    # Shells start background commands of scripts with SIGINT ignored, and Dagster handles SIGTERM as it handles SIGINT:
    # neither would end such a command.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.excepthook = print_traceback
    try:
        app()
    except _OWN_ERRORS as error:
        sys.exit(redact(f"{type(error).__name__}: {error}"))
    except (ValueError, RuntimeError) as error:
        if type(error).__name__ not in _IMPORTED_LATE:
            raise
        sys.exit(redact(f"{type(error).__name__}: {error}"))
    except Exception as error:
        if (message := explain_database_error(error)) is None:
            raise
        sys.exit(redact(message))
    except BaseException as error:
        # Raised by Dagster on Ctrl-C and SIGTERM during a run.
        if type(error).__name__ != "DagsterExecutionInterruptedError":
            raise
        print("interrupted; finished results are stored, and the same command continues from there", file=sys.stderr)
        sys.exit(INTERRUPTED)
