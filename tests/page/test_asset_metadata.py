"""Asset metadata is safe to display, short enough to store, and every column has a description."""

import json

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from persona_assets.graph import schemas
from persona_assets.graph.history import fingerprint_of
from persona_assets.graph.page_urls import links_to_personas
from persona_assets.metrics import build_leakage_table
from persona_assets.page import asset_metadata
from persona_assets.statistics.statement import COLUMNS
from persona_assets.store.artefacts import ArtefactStore

# Dagster hides JSON and Markdown of at least this many characters behind a click.
HIDDEN = 1000


def cells(table: dg.TableMetadataValue) -> list[str]:
    return [str(cell) for record in table.records for cell in record.data.values()]


def said(*texts: str) -> pd.DataFrame:
    return pd.DataFrame(
        {"persona": "villain", "question": [f"Question {n}?" for n in range(len(texts))], "text": texts}
    )


def test_invisible_characters_of_a_response_are_escaped():
    shown = asset_metadata.generations(said("left \u202eright\u200b", "<script>alert(1)</script> | `a` ![](x)"))[
        "responses"
    ]
    assert cells(shown)[1] == "left U+202ErightU+200B"
    # Dagster escapes table cells, so markup needs no escaping here.
    assert cells(shown)[3] == "<script>alert(1)</script> | `a` ![](x)"


def test_a_long_response_is_truncated():
    (question, text) = cells(asset_metadata.generations(said("a" * 2000))["responses"])
    assert question == "1. Question 0?"
    assert text == "a" * asset_metadata.LONGEST_TEXT + f" … ({2000 - asset_metadata.LONGEST_TEXT:,} characters more)"


def test_a_long_table_is_truncated_and_the_omitted_rows_are_counted():
    shown = asset_metadata.generations(said(*["text"] * (asset_metadata.MOST_ROWS + 5)))
    assert len(shown["responses"].records) == asset_metadata.MOST_ROWS
    assert shown["responses_left_out"] == f"5 of {asset_metadata.MOST_ROWS + 5}"


def test_model_output_is_only_in_table_cells():
    table = said("<script>secret</script>").assign(model="adapted", target="villain", found=True)
    for shown in (asset_metadata.generations(table), asset_metadata.marker_rates(table)):
        outside = {name: value for name, value in shown.items() if not isinstance(value, dg.TableMetadataValue)}
        assert "secret" not in str(outside)
        assert "secret" in str(shown)


def test_every_pair_is_listed_once_closest_first_with_its_interval():
    names = ["villain", "comedian", "data_scientist"]
    js = np.array([[0, 0.03, 0.02], [0.03, 0, 0.01], [0.02, 0.01, 0]])
    dims, shape = ("generators", "persona", "other"), js[None]
    matrix = xr.Dataset(
        {name: (dims, shape * factor) for name, factor in (("js", 1), ("js_low", 0.5), ("js_high", 2))},
        coords={"generators": ["all"], "persona": names, "other": names},
        attrs={"generators_shown": "all", "level": 0.95},
    )
    rows = [record.data for record in asset_metadata.logit_js_matrix(matrix)["js_in_nats"].records]
    assert [row["pair"] for row in rows] == [
        "comedian – data scientist", "villain – data scientist", "villain – comedian",
    ]  # fmt: skip
    assert rows[2] == {"JS": "0.0300", "pair": "villain – comedian", "95 % interval": "0.0150 to 0.0600"}


def log_probs() -> pd.DataFrame:
    rates = {"villain": (0.9, 0.7), "comedian": (0.2, 0.4)}
    return pd.DataFrame(
        [
            {"target": target, "question": question, "reply": 0, "seed": seed, "counted": question != "When?"}
            | {"marker_log_prob": np.log(rate), "base_marker_log_prob": np.log(rate) - 5.0}
            for target, of_target in rates.items()
            for seed in (42, 137)
            for question, rate in zip(("Why?", "How?", "When?"), (*of_target, 0.5), strict=True)
        ]
    )


def test_log_probabilities_are_shown_as_expected_rates_of_the_targets():
    shown = asset_metadata.marker_log_probs(log_probs())
    assert [record.data for record in shown["targets"].records] == [
        {"target": "villain", "expected rate": "0.800", "gain (nats)": "5.00", "replies": "2/3"},
        {"target": "comedian", "expected rate": "0.300", "gain (nats)": "5.00", "replies": "2/3"},
    ]
    assert shown["expected_rate_comedian"] == pytest.approx(0.3)
    assert shown["training_seeds"] == "42, 137"


PERSONAS = {"villain": "fictional", "assistant": "baseline", "comedian": "profession"}


def test_a_leakage_table_shows_the_outcomes_that_were_measured():
    by_source = {"villain": log_probs()}
    counts = {"villain": pd.DataFrame({"target": ["comedian", "assistant"], "found": [3, 0], "total": 20})}
    negatives = {"villain": {"comedian": 0.25}}
    table = build_leakage_table(counts, None, PERSONAS, {}, "r", log_probs=by_source, negatives=negatives)
    shown = asset_metadata.leakage_table(table)
    assert [list(record.data.values()) for record in shown["leakage"].records] == [
        ["0.300", "villain → comedian (trained negative)", "5.00", "0.15", "3/20"],
        ["–", "villain → assistant", "–", "0.00", "0/20"],
    ]
    assert shown["source_expected_rate_villain"] == pytest.approx(0.8)
    assert shown["mean_leakage"] == pytest.approx(0.075)
    only_counts = asset_metadata.leakage_table(build_leakage_table(counts, None, PERSONAS, {}, "r"))
    assert list(only_counts["leakage"].records[0].data) == ["rate", "source → target", "found"]
    assert "mean_expected_rate" not in only_counts
    only_log_probs = asset_metadata.leakage_table(
        build_leakage_table(None, None, PERSONAS, {}, "r", log_probs=by_source)
    )
    assert list(only_log_probs["leakage"].records[0].data) == ["expected rate", "source → target", "gain (nats)"]
    assert "mean_leakage" not in only_log_probs


def test_links_to_personas_are_short_enough_to_be_displayed_inline():
    personas = [f"persona_{n}" for n in range(40)]
    shown = links_to_personas("generations", "run7.checkpoint-2000", personas)
    assert all(len(link.value) < HIDDEN for link in shown.values())
    assert all(sum(f"[{persona}](" in link.value for link in shown.values()) == 1 for persona in personas)


def test_the_record_is_hidden_behind_a_click_and_identifies_the_artefact(tmp_path):
    store = ArtefactStore(tmp_path)
    artefact = store.put("pair_table", {"asset": "pair_table"}, pd.DataFrame({"js": [0.1]}), {})
    metadata = schemas.record(artefact)
    assert len(json.dumps(metadata["record"].value)) >= HIDDEN
    event = dg.AssetMaterialization("pair_table", metadata=metadata)
    assert fingerprint_of(event) == artefact.fingerprint
    old_format = dg.AssetMaterialization("pair_table", metadata={"fingerprint": "f0"})
    assert fingerprint_of(old_format) == "f0"
    assert fingerprint_of(dg.AssetMaterialization("pair_table")) is None


def test_every_column_of_the_statements_is_described():
    assert schemas.COLUMNS["partial_correlations"].keys() == COLUMNS.keys()


@pytest.mark.parametrize(
    ("column", "begins"),
    [
        ("js", "Jensen–Shannon divergence"),
        ("js_others", "JS in nats, averaged over that generator subset"),
        ("js_low", "lower bound"),
        ("cosine_111_personas_layer20", "cosine of the centroids"),
    ],
)
def test_columns_that_depend_on_the_study_are_described(column, begins):
    assert str(schemas.column_description("pair_table", column)).startswith(begins)


def test_an_unknown_column_has_no_description():
    assert schemas.column_description("pair_table", "colour") is None
