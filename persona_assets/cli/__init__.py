"""The command `persona-assets`: one module for each group of commands."""

import os
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
from persona_assets.store.shared import SharedStorageError
from persona_assets.study import StudyError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (measure.run, measure.status, measure.plan, instance.ui, instance.prune, instance.doctor):
    app.command()(command)
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(import_app, name="import")
app.add_typer(study_app, name="study")
app.add_typer(watch_app, name="watch")

INTERRUPTED = 130  # what shells report for a command that was interrupted
# Errors of packages that are imported only where they are needed.
_IMPORTED_LATE = ("LeakageError", "NonFiniteError", "EngineError", "OutOfMemoryError")


@app.callback()
def about() -> None:
    """How a language model's personas differ: responses, Jensen–Shannon divergence, centroids, report.

    A study (YAML) says what is measured, the registry says on which checkpoints, and Dagster materialises the rest.
    To begin: `persona-assets run`, then `persona-assets ui`.
    """
    os.environ.setdefault("DAGSTER_HOME", str(Path("dagster_home").absolute()))
    os.umask(os.umask(0o022) | 0o002)  # whatever the umask was, nothing is written that everybody can change
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)


def main() -> None:
    """Runs the command; the project's own errors are sentences, not tracebacks, and no error tells a secret."""
    sys.excepthook = print_traceback
    try:
        app()
    except (StudyError, CheckpointError, ArtefactError, InstanceError, PublishedRunError, SharedStorageError) as error:
        sys.exit(redact(f"{type(error).__name__}: {error}"))
    except (ValueError, RuntimeError) as error:
        if type(error).__name__ not in _IMPORTED_LATE:
            raise
        sys.exit(redact(f"{type(error).__name__}: {error}"))
    except Exception as error:
        if (said := explain_database_error(error)) is None:
            raise
        sys.exit(redact(said))
    except BaseException as error:
        # Dagster's own, for Ctrl-C and for being terminated while it runs something.
        if type(error).__name__ != "DagsterExecutionInterruptedError":
            raise
        print("interrupted; what is done is stored, and the same command goes on from there", file=sys.stderr)
        sys.exit(INTERRUPTED)
