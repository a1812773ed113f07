"""Loading of studies: shipped with the package, imported into the instance folder, or given as a path."""

import os
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from persona_assets.files.reading import named, shown
from persona_assets.files.yaml_files import describe_errors, read_yaml
from persona_assets.study.study import NAME, Study, StudyError

ENVIRONMENT_VARIABLE = "PERSONA_ASSETS_STUDY"
DEFAULT_STUDY = "embedded"


def load_study(name_or_path: str | Path | None = None) -> Study:
    """Load a study from a YAML file, or by the name of a shipped study (`embedded`, `published`) or imported run.

    The default is the value of the environment variable PERSONA_ASSETS_STUDY, or `embedded` if it is not set.

    Raises:
        StudyError: the study is invalid; the message names the file, the field, what was found and what was expected.
    """
    path = study_path(name_or_path or os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_STUDY)
    try:
        content = read_yaml(path)
        if not isinstance(content, dict):
            raise ValueError(
                f"{path}: found {type(content).__name__}; expected a mapping with name, baseline, personas, …"
            )
        study = Study.model_validate(content)
        given = {field: getattr(study, field) for field in ("leakage", "source_rates") if getattr(study, field)}
        files = {field: path.absolute().parent / file for field, file in given.items()}
        for field, file in files.items():
            if not _exists(file):
                raise ValueError(
                    f"{path}: {field}: {named(str(file), 300)} does not exist; expected a file or folder of counts"
                )
        return study.model_copy(update=files)
    except ValidationError as error:
        raise StudyError(f"{path}: {describe_errors(error)}") from None
    except ValueError as error:
        raise StudyError(str(error)) from error


def study_path(name_or_path: str | Path) -> Path:
    """Return the file of a shipped or imported study given its name, or the path itself.

    Raises:
        StudyError: the argument is neither the name of a study nor a file.
    """
    folders = [Path(str(resources.files("persona_assets.study") / "studies")), imported_studies()]
    for folder in folders:
        by_name = folder / f"{name_or_path}.yaml"
        if NAME.fullmatch(str(name_or_path)) and _exists(by_name) and by_name.is_file():
            return by_name
    if _exists(path := Path(name_or_path)) and path.is_file():
        return path
    names = sorted(file.stem for folder in folders for file in folder.glob("*.yaml"))
    raise StudyError(f"study {shown(str(name_or_path))}: no such file; expected a YAML file or one of {names}")


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that is too long for the file system or contains a null byte
        return False


def imported_studies() -> Path:
    """Return the instance's folder of studies created for imported runs."""
    return Path(os.environ.get("DAGSTER_HOME") or "dagster_home").absolute() / "studies"
