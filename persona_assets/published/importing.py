"""Imports a published run as a checkpoint: creates its study, artefacts and Dagster events from its files.

    studies/<name>.yaml        the study, with the run's own prompts and questions
    imported/<name>/           the marker counts, and the digest of every file that was read
    artefacts/…                responses, JS and cosines, in the format of a computed checkpoint

All files are read and validated before anything is written, and events are reported last. A run that cannot be
imported therefore leaves nothing behind, and an interrupted import can be repeated.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pydantic import ValidationError

from persona_assets import metrics
from persona_assets.files.atomic import atomic_write
from persona_assets.files.reading import named, shown
from persona_assets.files.yaml_files import LARGEST_YAML, describe_errors, parse_yaml
from persona_assets.graph.history import DATA_VERSION, latest_fingerprints
from persona_assets.graph.home import Home
from persona_assets.graph.page_urls import link_to_report, links_to_personas
from persona_assets.graph.partitions import CHECKPOINT, partition_key, split_key
from persona_assets.graph.provenance import HEAVY, study_part
from persona_assets.graph.schemas import actual_schema, record
from persona_assets.page import asset_metadata
from persona_assets.published.files import PublishedRunError, mapping, read_json
from persona_assets.published.run import PublishedRun, read_published_run
from persona_assets.store.artefacts import Artefact, Value
from persona_assets.study import Study, checked_name
from persona_assets.study.files import load_study, study_path

# Increment when the same files are imported as different artefacts.
READER_VERSION = 1
SOURCE_RATES, MARKER_EVAL, RECORD = "source_rates.csv", "marker_eval", "import.json"


@dataclass(frozen=True)
class Imported:
    """Result of an import: the study, the number of newly reported partitions, and the data missing from the files."""

    study: Study
    study_file: Path
    reported: int
    absent: tuple[str, ...]


def import_published_run(
    instance: dg.DagsterInstance, home: Home, directory: Path, name: str, baseline: str
) -> Imported:
    """Import a published run as the checkpoint `name`, measured by the study `name`.

    Args:
        directory: the run's folder, as described in `published.run`.
        baseline: the persona that others are compared with, which the run's files do not state.

    Raises:
        PublishedRunError: the files are invalid, or `name` is already used for something else.
        LeakageError: the marker counts are invalid.
    """
    run = read_published_run(directory, baseline)
    if run.marker_eval:
        metrics.read_marker_eval(run.marker_eval, run.personas)
    try:
        checked_name(name)
    except ValueError as error:
        raise PublishedRunError(f"--as: {error}") from None
    study_file = _available_study_file(home, name, run)
    text = _checked_study(directory, study_file, _study(name, baseline, run), run)
    entry = {"imported": f"imported/{name}"}
    home.registry.check_added(name, entry)
    _keep_files(home.root / "imported" / name, run)
    with atomic_write(study_file) as partial:
        partial.write_text(text, encoding="utf-8")
    study = load_study(study_file)
    artefacts = {
        (asset, key): _store(home, study, run, asset, file, persona, value)
        for asset, file, key, persona, value in _values(name, run)
    }
    home.registry.add(name, entry)
    if name not in instance.get_dynamic_partitions(CHECKPOINT):
        instance.add_dynamic_partitions(CHECKPOINT, [name])
    reported = [_report(instance, run, key, artefact) for (_, key), artefact in artefacts.items()]
    return Imported(study, study_file, sum(reported), run.absent)


def _available_study_file(home: Home, name: str, run: PublishedRun) -> Path:
    """Return the path of the study, after checking that the name is not used for something else."""
    file = home.studies / f"{name}.yaml"
    record = home.root / "imported" / name / RECORD
    if record.is_file() and mapping(record, read_json(record), "the record of an import").get("digest") == run.digest:
        return file
    taken = record if record.is_file() else file if file.is_file() else None
    if taken is None and name in home.registry.names():
        taken = home.registry.file
    if taken is None:
        try:
            taken = study_path(name)
        except ValueError:
            return file
    raise PublishedRunError(f"{name}: this name is already used by {taken}; expected another name after --as")


def _study(name: str, baseline: str, run: PublishedRun) -> dict[str, Any]:
    """Return the content of the study's file."""
    optional = {
        "training_questions": list(run.training_questions),
        "leakage": f"../imported/{name}/{MARKER_EVAL}" if run.marker_eval else None,
        "source_rates": f"../imported/{name}/{SOURCE_RATES}" if run.source_rates is not None else None,
    }
    return {
        "name": name,
        "imported": True,
        "baseline": baseline,
        "personas": run.personas,
        "questions": list(run.questions),
        "layers": run.layers,
        **{field: value for field, value in optional.items() if value},
    }


def _checked_study(directory: Path, file: Path, content: dict[str, Any], run: PublishedRun) -> str:
    """Return the text of the study's file, after checking that it is a valid study and parses to this content."""
    text = _with_heading(content, run)
    try:
        Study.model_validate(content)
        if parse_yaml(text, file) != content or len(text.encode()) > LARGEST_YAML:
            raise ValueError(f"its personas and questions do not fit into a study file of at most {LARGEST_YAML} bytes")
    except ValidationError as error:
        raise PublishedRunError(f"{directory}: cannot be converted to a study: {describe_errors(error)}") from None
    except ValueError as error:
        raise PublishedRunError(f"{directory}: cannot be converted to a study: {error}") from None
    return text


def _with_heading(content: dict[str, Any], run: PublishedRun) -> str:
    heading = [
        "Study of a published run, with its own prompts and questions; written by `persona-assets import`.",
        *(
            f"{key}: {_one_line(value)}"
            for key, value in run.about.items()
            if key in ("model", "git_commit", "timestamp")
        ),
        "Missing from its files:",
        *(f"  {absent}" for absent in run.absent),
    ]
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in heading) + "\n" + body


def _one_line(value: Any) -> str:
    """Return a metadata value for a YAML comment, without line breaks, which would end the comment."""
    return named(value if isinstance(value, str) else shown(value), 200)


def _keep_files(folder: Path, run: PublishedRun) -> None:
    """Store the marker counts, which light assets read, and a record of all files that were read."""
    with atomic_write(folder) as partial:
        partial.mkdir()
        if run.marker_eval:
            (partial / MARKER_EVAL).mkdir()
            for file in metrics.counts_of(run.marker_eval, run.personas):  # only the validated files
                shutil.copyfile(file, partial / MARKER_EVAL / file.name)
        if run.source_rates is not None:
            run.source_rates.to_csv(partial / SOURCE_RATES, index=False)
        record = {"digest": run.digest, "files": run.digests, "about": run.about, "absent": run.absent}
        (partial / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")


def _values(name: str, run: PublishedRun) -> list[tuple[str, str, str, str | None, Value]]:
    """Return for every partition: asset, source file, partition key, persona (None if unpartitioned by it), value."""
    described = {"model": run.about.get("model", "unknown"), "imported": {**run.about, "files": run.digests}}
    rows: list[tuple[str, str, str, str | None, Value]] = [
        ("model_checkpoint", "divergences", name, None, described),
        ("centroid_cosine", "cosine", name, None, run.cosine),
    ]
    for persona in run.personas:
        key = partition_key(name, persona)
        responses = run.generations[run.generations.persona == persona].reset_index(drop=True)
        rows.append(("generations", "generations", key, persona, responses))
        rows.append(("logit_js", "divergences", key, persona, run.logit_js[persona]))
    return rows


def _store(
    home: Home, study: Study, run: PublishedRun, asset: str, file: str, persona: str | None, value: Value
) -> Artefact:
    files = {name: digest for name, digest in run.digests.items() if name.startswith(file) or file == "cosine"}
    made_from = {
        "asset": asset,
        "code": READER_VERSION,
        "checkpoint": run.digest,
        "study": study_part(study, asset, persona) if persona and asset in HEAVY else {},
        "persona": persona,
        "imported": {run.files[name].name: digest for name, digest in files.items()},
    }
    return home.store.find(asset, made_from) or home.store.put(asset, made_from, value, {})


# Metadata that Dagster shows for imported assets.
_SHOWN: dict[str, Callable[[Any], dict[str, Any]]] = {
    "generations": asset_metadata.generations,
    "logit_js": asset_metadata.logit_js,
    "centroid_cosine": asset_metadata.centroid_cosine,
}


def _links(run: PublishedRun, asset: str, key: str) -> dict[str, Any]:
    name, persona = split_key(key)
    return {**(links_to_personas(asset, name, list(run.personas)) if persona else {}), **link_to_report(name)}


def _report(instance: dg.DagsterInstance, run: PublishedRun, key: str, artefact: Artefact) -> bool:
    """Report the materialisation of one partition; return False if Dagster already has it."""
    if latest_fingerprints(instance, artefact.asset, [key]).get(key) == artefact.fingerprint:
        return False
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            artefact.asset,
            partition=key,
            description="imported from the files of a published run",
            metadata={
                **_links(run, artefact.asset, key),
                **_SHOWN.get(artefact.asset, lambda _: {})(value := artefact.read()),
                **actual_schema(artefact.asset, value),
                "absent": dg.MetadataValue.md("\n".join(f"- {absent}" for absent in run.absent)),
                **record(artefact),
            },
            tags={DATA_VERSION: artefact.fingerprint},
        )
    )
    return True
