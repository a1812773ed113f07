"""`persona-assets study`: validate a study file."""

from typing import Annotated

import typer

from persona_assets.study.files import load_study, study_path

study_app = typer.Typer(no_args_is_help=True, help="Validate a study file.")


@study_app.command("check")
def study_check(study: Annotated[str, typer.Argument(help="YAML file, or name of a shipped study.")]) -> None:
    """Load a study and print what it measures, or its first error."""
    loaded = load_study(study)
    personas, pairs = len(loaded.personas), len(loaded.personas) * (len(loaded.personas) - 1) // 2
    print(
        f"{study_path(study)}: {loaded.name}: {personas} personas ({pairs} pairs, baseline {loaded.baseline}), "
        f"{len(loaded.questions)} questions, "
        + (f"at most {loaded.decoding.max_new_tokens} tokens each" if loaded.decoding else "imported")
    )
