"""`persona-assets import`: import a published run."""

from pathlib import Path
from typing import Annotated

import typer

from persona_assets.cli.shared import open_instance

import_app = typer.Typer(no_args_is_help=True, help="Import results that were computed elsewhere.")


@import_app.command("published-run")
def import_published_run(
    directory: Annotated[
        Path, typer.Argument(help="Folder with the run's files, listed in docs/how-to/published-run.md.")
    ],
    name: Annotated[str, typer.Option("--as", help="Name of the checkpoint and study to create.")],
    baseline: Annotated[str, typer.Option(help="Persona that the others are compared with.")] = "assistant",
) -> None:
    """Import a published run as a checkpoint; its tables, statistics and report are computed without a model."""
    from persona_assets.graph.home import Home
    from persona_assets.published import importing

    home = Home.of_environment()
    brought = importing.import_published_run(open_instance(), home, directory, name, baseline)
    personas, questions = len(brought.study.personas), len(brought.study.questions)
    print(f"imported  {name}: {personas} personas × {questions} questions; {brought.reported} partitions reported")
    print("absent    " + "\n          ".join(brought.absent))
    print(f"study     {brought.study_file}; next: `persona-assets run --study {name}`")
