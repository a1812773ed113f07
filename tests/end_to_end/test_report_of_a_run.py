"""The report of a run that took a real model: tokens with their JS, checks, costs, nothing of the machine's folders."""

import io

import pandas as pd
import pytest

from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.partitions import partition_key
from persona_assets.page.token_texts import js_by_token
from tests.end_to_end.conftest import CHECKPOINT
from tests.presentation.pages import assert_harmless, read_page


@pytest.fixture(scope="module")
def files(small_run):
    return latest_artefacts(small_run.instance, small_run.home.store, "report", [CHECKPOINT])[CHECKPOINT].read()


@pytest.fixture(scope="module")
def page(files):
    return read_page(files["report.html"].decode())


def test_every_token_of_the_extreme_pairs_has_its_js_and_its_text(small_run, page):
    said = page.one("section", id="texts")
    assert len(said.all(class_="response")) == 2 * 2 * len(small_run.study.questions)
    assert len([span for span in said.all("span") if span.attributes.get("class", "").startswith("js")]) > 20
    generations = {
        name: latest_artefacts(small_run.instance, small_run.home.store, "generations", [key])[key].read()
        for name in small_run.study.personas
        for key in [partition_key(CHECKPOINT, name)]
    }
    pair = ("villain", "comedian")
    tokens = js_by_token(small_run.instance, small_run.home, small_run.study, CHECKPOINT, generations, [pair])
    assert len(tokens) == 2 * len(small_run.study.questions) * small_run.study.decoding.max_new_tokens
    for (persona, question), rows in tokens.groupby(["persona", "question"]):
        text = generations[persona].set_index("question").text[question]
        assert "".join(rows.piece).strip() == text.strip()
    matrix = latest_artefacts(small_run.instance, small_run.home.store, "logit_js_matrix", [CHECKPOINT])[
        CHECKPOINT
    ].read()
    of_pair = matrix.js.sel(generators="pair", persona="villain", other="comedian")
    assert tokens.js.mean() == pytest.approx(float(of_pair), rel=1e-5)  # responses are equally long here


def test_leaks_and_replies_without_one_can_be_read(page):
    replies = page.one("section", id="leakage").all(class_="response")
    assert len(replies) >= 3
    assert {mark.text.casefold() for reply in replies for mark in reply.all("mark")} == {"[zlt]"}
    assert any(not reply.all("mark") for reply in replies)


def test_how_it_was_made_names_stages_checks_and_versions(small_run, page, files):
    assert_harmless(page)
    made = page.one("section", id="made")
    for fact in (
        "marker adapter",
        "tokens per second",
        "every question is answered",
        "passed: ",
        "torch",
        "dtype float32",
    ):
        assert fact in made.words
    assert str(small_run.home.root) not in files["report.html"].decode() + files["report.md"].decode()
    assert page.one("section", id="cite").one("pre").text.startswith("@software{persona_assets_20")


def test_the_tables_beside_it_are_those_that_it_was_made_from(small_run, files):
    stored = latest_artefacts(small_run.instance, small_run.home.store, "pair_table", [CHECKPOINT])[CHECKPOINT].read()
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(files["pair_table.parquet"])), stored)
    assert files["report.md"].decode().startswith(f"# Personas of {CHECKPOINT}\n")
