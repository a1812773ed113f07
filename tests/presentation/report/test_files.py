"""Files next to the page: the Markdown summary, and tables in full precision."""

import io
import re

import numpy as np
import pandas as pd
import pytest

from persona_assets.presentation import render_markdown, report_files
from persona_assets.presentation.report.citation import citation
from persona_assets.presentation.report.table_files import table_files
from tests.presentation.by_hand import PRIMARY, statements_by_hand, verdict_by_hand
from tests.presentation.conftest import Synthetic

MADE = {
    "made": "2026-03-01 12:00 UTC",
    "persona assets": "0.1.0",
    "stages": {"generations": {"tokens": 1234, "seconds": 2.5, "torch": "2.13.0"}},
    "checks": {"generations: are_not_empty": "passed: 0 of 6", "logit_js_matrix: js": "failed: above ln 2"},
}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    three = Synthetic(3, questions=4)
    study, checkpoint = ({"name": name, "digest": digit * 64} for name, digit in (("mine", "a"), ("run7", "b")))
    return report_files(
        **three.leaky_report_inputs()
        | {"study": study, "checkpoint": checkpoint, "provenance": MADE, "figures": {}}
        | {"statements": statements_by_hand(), "verdict": verdict_by_hand(), "primary_cosine": PRIMARY}
    )


def test_csv_and_parquet_tables_have_the_same_numbers(files):
    names = {name.partition(".")[0] for name in files} - {"report"}
    assert names == {"pair_table", "js_matrix", "cosine", "statements", "leakage_table"}
    for name in names:
        table = pd.read_parquet(io.BytesIO(files[f"{name}.parquet"]))
        again = pd.read_csv(io.BytesIO(files[f"{name}.csv"]), keep_default_na=True)
        assert list(again.columns) == list(table.columns)
        assert len(again) == len(table) > 0
        for column in table.select_dtypes("float").columns:
            np.testing.assert_array_equal(again[column].astype(float), table[column])


def test_a_cell_of_a_matrix_is_a_row_with_its_interval():
    three = Synthetic(3)
    files = table_files(three.pair_table, three.logit_js_matrix, three.centroid_cosine)
    assert set(files) == {
        f"{name}.{kind}" for name in ("pair_table", "js_matrix", "cosine") for kind in ("csv", "parquet")
    }
    js = pd.read_parquet(io.BytesIO(files["js_matrix.parquet"])).set_index(["generators", "persona", "other"])
    assert list(js.columns) == ["js", "js_low", "js_high", "kl", "kl_low", "kl_high"]
    assert len(js) == 5 * 3 * 3
    cell = three.logit_js_matrix.sel(generators="pair", persona="villain", other="assistant")
    assert js.loc[("pair", "villain", "assistant"), "js_low"] == float(cell.js_low)
    cosine = pd.read_parquet(io.BytesIO(files["cosine.parquet"])).set_index(["population", "layer", "persona", "other"])
    assert cosine.cosine["study", 14, "villain", "assistant"] == float(
        three.centroid_cosine.cosine.sel(population="study", layer=14, persona="villain", other="assistant")
    )


def test_cells_without_a_value_are_left_out():
    three = Synthetic(3)
    cosine = three.centroid_cosine.where(three.centroid_cosine.layer != 14)
    files = table_files(three.pair_table, three.logit_js_matrix, cosine)
    assert set(pd.read_csv(io.BytesIO(files["cosine.csv"])).layer) == {7, 21, 27}


def test_the_summary_has_verdict_statements_extremes_and_provenance(files):
    text = files["report.md"].decode()
    assert len(text) < 5000
    assert "**Verdict.** JS leads (\\|ρ\\| +0.20)." in text
    assert "- More sources: It would take 40 sources." in text
    assert "| spearman: JS | 50 | −0.746 \\[−0.858, −0.565\\] p 5.2e−10 | −0.746 \\[−0.874, −0.524\\] p 0.002 |" in text
    assert re.search(r"^\| most divergent: .* – .* \| 0\.\d+ \\\[0\.\d+, 0\.\d+\\\] \|", text, re.MULTILINE)
    assert "- checkpoint: run7 bbbbbbbbbbbb\n- study: mine aaaaaaaaaaaa\n" in text
    assert "- generations: tokens 1234, seconds 2.5\n" in text
    assert "- checks: passed 1, failed logit\\_js\\_matrix: js failed: above ln 2" in text
    assert text.endswith("with its tables as CSV and Parquet.\n")


def test_markdown_tables_have_equally_many_cells_in_every_row(files):
    for table in re.findall(r"(?:^\|.*\n)+", files["report.md"].decode(), flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1


def test_without_leakage_the_summary_does_not_mention_it():
    inputs = Synthetic(3, questions=4).report_inputs()
    inputs.pop("pair_table")
    text = render_markdown(**inputs)
    assert "Verdict" not in text
    assert text.count("```text") == 2
    assert "- checkpoint: qwen2.5-7b-instruct" in text


def test_a_citation_names_version_year_study_and_checkpoint():
    cite = citation(
        version="0.1.0", year=2026, study="mine_2", checkpoint="run7", digests=["checkpoint bbbb", "study aaaa"]
    )
    assert cite.text == (
        "persona_assets 0.1.0 (2026). Report on run7 by the study mine_2 (checkpoint bbbb; study aaaa)."
    )
    assert cite.bibtex.startswith("@software{persona_assets_2026,\n")
    assert "  version = {0.1.0},\n" in cite.bibtex
    assert r"study mine\_2 (checkpoint bbbb" in cite.bibtex
    assert cite.bibtex.count("{") == cite.bibtex.count("}")
    assert "published run" not in " ".join(cite.besides)
