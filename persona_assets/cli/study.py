"""`persona-assets study`: validate a study file, and show its prompts."""

from typing import Annotated

import typer

from persona_assets.cli.shared import open_registry
from persona_assets.study.files import load_study, study_path

study_app = typer.Typer(no_args_is_help=True, help="Validate a study file, and show its prompts.")


@study_app.command("check")
def study_check(
    study: Annotated[str, typer.Argument(help="YAML file, or name of a shipped study.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Registered checkpoint; also check that it can be measured by this study.")
    ] = None,
) -> None:
    """Load a study and every file that it names, and print what it measures, or its first error."""
    from persona_assets.runs.requirements import require_readable_files

    loaded = load_study(study)
    require_readable_files(loaded)
    personas, pairs = len(loaded.personas), len(loaded.personas) * (len(loaded.personas) - 1) // 2
    print(
        f"{study_path(study)}: {loaded.name}: {personas} personas ({pairs} pairs, baseline {loaded.baseline}), "
        f"{len(loaded.questions)} questions, "
        + (f"at most {loaded.decoding.max_new_tokens} tokens each" if loaded.decoding else "imported")
    )
    if checkpoint is not None:
        from persona_assets.inference.inspection import inspect  # imports PyTorch

        print("\n".join(inspect(open_registry().get(checkpoint), loaded).lines()))


@study_app.command("show")
def study_show(
    study: Annotated[str, typer.Argument(help="YAML file, or name of a shipped study.")],
    checkpoint: Annotated[str, typer.Option(help="Registered checkpoint, whose chat template is used.")],
) -> None:
    """Print every persona's prompt as the model reads it, with its tokens; no weights are read."""
    from persona_assets.inference import prompt_lines, read_chat  # imports PyTorch

    loaded = load_study(study)
    chat = read_chat(open_registry().get(checkpoint)).with_settings(loaded.chat)
    print("\n".join(prompt_lines(chat, loaded.prompts, loaded.questions[0])))
