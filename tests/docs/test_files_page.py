"""Tests that the pages on settings and files agree with the code: fields, defaults, columns and dimensions."""

import io
import json
import re
import typing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import xarray as xr
from pydantic import BaseModel

from persona_assets.checkpoints import Checkpoint
from persona_assets.checkpoints.watched import Watch
from persona_assets.graph.provenance import HEAVY
from persona_assets.metrics import drift, read_leakage_table, read_source_rates
from persona_assets.runs.run import Run
from persona_assets.study import Persona, Study
from persona_assets.study.design import Drawn
from persona_assets.study.recipe import Recipe
from persona_assets.study.settings import Bootstrap, ChatSettings, Decoding, Inference, Statistics
from tests.docs.reading import blocks, tables

Rows = list[dict[str, str]]
WRITTEN = (Study, Persona, Drawn, Decoding, ChatSettings, Bootstrap, Statistics, Inference, Checkpoint, Watch)
STORED = ("generations", "marker_log_probs", "marker_rates", "leakage_table", "pair_table", "partial_correlations")
LABELLED = ("logit_js", "logit_js_matrix", "centroids", "centroid_cosine")


@pytest.fixture(scope="module")
def reference(repository: Path) -> Path:
    return repository / "docs" / "reference"


@pytest.fixture(scope="module")
def documented(reference: Path) -> dict[str, list[Rows]]:
    """Return heading → the tables below it, from both pages."""
    found: dict[str, list[Rows]] = {}
    for page in ("settings.md", "files.md"):
        for heading, rows in tables(reference / page):
            found.setdefault(heading, []).append(rows)
    return found


def choices(annotation: Any) -> set[str]:
    """Return all words that a field accepts."""
    if typing.get_origin(annotation) is typing.Literal:
        return {word for word in typing.get_args(annotation) if isinstance(word, str)}
    return set().union(*map(choices, typing.get_args(annotation)))


def default_of(model: type[BaseModel], name: str) -> str:
    field = model.model_fields[name]
    match field.default:
        case _ if field.is_required():
            return "required"
        case None | ():
            return "none"
        case BaseModel():
            return "its defaults"
        case bool() | dict():
            return f"`{json.dumps(field.default)}`".replace('"', "")
        case _:
            return f"`{field.default}`"


@pytest.mark.parametrize("model", WRITTEN, ids=lambda model: model.__name__)
def test_fields_and_their_defaults_are_the_models(model: type[BaseModel], documented: dict[str, list[Rows]]) -> None:
    (rows,) = documented[model.__name__.removesuffix("Settings")]
    assert {row["field"].strip("`"): row["default"] for row in rows} == {
        name: default_of(model, name) for name in model.model_fields
    }
    for row in rows:
        words = choices(model.model_fields[row["field"].strip("`")].annotation)
        assert words <= set(re.findall(r"`([^`]+)`", row["type"])), row


def test_a_recipe_has_these_numbers_and_choices(documented: dict[str, list[Rows]]) -> None:
    (rows,) = documented["Recipe"]
    fields = {
        f"{part}.{name}": inner.annotation
        for part, field in Recipe.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for name, inner in field.annotation.model_fields.items()
    }
    assert {row["field"].strip("`") for row in rows} == set(fields)
    for row in rows:
        assert choices(fields[row["field"].strip("`")]) <= set(re.findall(r"`([^`]+)`", row["type"])), row


def test_counts_as_they_are_shown_can_be_read(reference: Path, tmp_path: Path) -> None:
    leakage, rates = [
        block for block in blocks(reference / "settings.md", "text") if block.heading == "Counts of your own"
    ]
    personas = ["villain", "comedian", "assistant"]
    (tmp_path / "counts.csv").write_text(leakage.text)
    (tmp_path / "rates.csv").write_text(rates.text)
    assert read_leakage_table(tmp_path / "counts.csv", personas).rate.tolist() == [0.88, 0.12, 0.0]
    assert read_source_rates(tmp_path / "rates.csv", personas).columns.tolist()[2:] == [
        "js_assistant",
        "cosine_assistant_l20",
    ]


def require_columns(rows: Rows, table: pd.DataFrame) -> None:
    """Require that the page lists every column with its type, and nothing else."""
    patterns = {re.sub(r"<\w+>", "[^ ]+", row["column"].strip("`")): row["type"] for row in rows}
    exact = {name: dtype for name, dtype in patterns.items() if name in table}
    for name, dtype in table.dtypes.items():
        found = {exact[name]} if name in exact else {t for p, t in patterns.items() if re.fullmatch(p, str(name))}
        assert found == {str(dtype)}, name
    for pattern in patterns:
        assert any(re.fullmatch(pattern, str(name)) for name in table), pattern


@pytest.mark.parametrize("asset", STORED)
def test_columns_are_those_that_a_run_stored(asset: str, documented: dict[str, list[Rows]], docs_run: Run) -> None:
    (rows,) = documented[asset]
    require_columns(rows, next(docs_run.home.store.all(asset)).read())


def test_columns_of_an_adapters_tables(documented: dict[str, list[Rows]], docs_run: Run) -> None:
    files = next(docs_run.home.store.all("marker_adapter")).read()
    assert {"adapter_model.safetensors", "adapter_config.json"} < set(files)
    for rows, name in zip(documented["marker_adapter"], ("examples.parquet", "steps.parquet"), strict=True):
        require_columns(rows, pd.read_parquet(io.BytesIO(files[name])))


@pytest.mark.parametrize("asset", LABELLED)
def test_dimensions_are_those_that_a_run_stored(asset: str, documented: dict[str, list[Rows]], docs_run: Run) -> None:
    (rows,) = documented[asset]
    stored: xr.Dataset = next(docs_run.home.store.all(asset)).read()
    assert {row["variable"].strip("`"): (row["dimensions"], row["type"]) for row in rows} == {
        str(name): (", ".join(map(str, variable.dims)), str(variable.dtype))
        for name, variable in stored.data_vars.items()
    }


def test_columns_of_drift_are_those_of_the_metric(documented: dict[str, list[Rows]]) -> None:
    expected = (drift._LEVELS, drift._CHANGES, drift._DISTANCES)
    for rows, columns in zip(documented["checkpoint_drift"], expected, strict=True):
        assert {row["column"].strip("`"): row["type"] for row in rows} == columns


def test_a_record_says_what_the_page_says(documented: dict[str, list[Rows]], docs_run: Run) -> None:
    record, heavy, light = documented["Record"]
    root = docs_run.home.store.root
    for folder in root.iterdir():
        for artefact in docs_run.home.store.all(folder.name):
            stored = json.loads((folder / f"{artefact.fingerprint}.json").read_text())
            assert {row["field"].strip("`") for row in record} == {*stored, "pruned"}
            if folder.name in ("base_replies", "base_log_probs"):
                continue
            is_heavy = folder.name in {*HEAVY, "self_check"}
            rows, head = (heavy, "`made_from`") if is_heavy else (light, "`made_from` of tables")
            assert {row[head].strip("`") for row in rows} == set(artefact.made_from), folder.name
    environment = next(row["meaning"] for row in heavy if row["`made_from`"] == "`environment`")
    generated = next(docs_run.home.store.all("generations"))
    assert [word.strip() for word in environment.partition(";")[0].split(",")] == list(
        generated.made_from["environment"]
    )


def test_a_checkpoints_identity_has_these_keys(documented: dict[str, list[Rows]], docs_run: Run) -> None:
    (rows,) = documented["model_checkpoint"]
    stored = next(docs_run.home.store.all("model_checkpoint")).read()
    assert [row["key"].strip("`") for row in rows] == list(stored)


def test_an_instances_folder_holds_what_the_page_names(reference: Path, docs_run: Run) -> None:
    layout = blocks(reference / "files.md", "text")[0].text
    for path in docs_run.home.root.iterdir():
        if not path.name.startswith("."):
            assert re.search(rf"(^|\s){re.escape(path.name)}(/|\s)", layout), path.name


def test_environment_variables_are_those_of_the_code(repository: Path, documented: dict[str, list[Rows]]) -> None:
    (rows,) = documented["Environment variables"]
    code = "".join(file.read_text() for file in (repository / "persona_assets").rglob("*.py"))
    named = set(re.findall(r"PERSONA_ASSETS_[A-Z_]+", code))
    assert {row["variable"].strip("`") for row in rows} == named | {"DAGSTER_HOME", "TORCH_INDEX"}
