"""The small study, measured in full, asked again by landmarks and by sources: what is found and what is computed.

Each design is a process of its own, as a user starts it, over one copy of `measured_tiny`.
"""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY
from tests.commands import run

DESIGNS: dict[str, dict[str, object]] = {
    "landmarks": {"design": "landmarks", "landmarks": ["assistant", "villain"]},
    "sources": {"design": "sources"},
}
SHOWN = {"landmarks": "all_estimated", "full": "all", "sources": "sources"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, measured_tiny: Path) -> Home:
    return Home(shutil.copytree(measured_tiny, tmp_path_factory.mktemp("designs") / "home"))


@pytest.fixture(scope="module")
def said(home: Home, repository: Path) -> Mapping[str, str]:
    """Design → what `persona-assets run` said."""
    small = yaml.safe_load((repository / "tests" / "small_study.yaml").read_text())
    found = {}
    for design, fields in DESIGNS.items():
        study = home.root.parent / f"{design}.yaml"
        study.write_text(yaml.safe_dump({**small, **fields}, sort_keys=False))
        line = ["-m", "persona_assets.cli", "run", "--study", str(study), "--checkpoint", "tiny"]
        done = run(line, {"DAGSTER_HOME": str(home.root)})
        assert done.returncode == 0, done.stdout + done.stderr
        found[design] = done.stdout + done.stderr
    return found


def computed(said: str) -> set[tuple[str, str]]:
    """(asset, persona) of what a run made anew."""
    lines = re.findall(r"([a-z_]+) \d+/\d+ ([a-z]+): (.*)", said)
    return {(asset, persona) for asset, persona, what in lines if what != "already stored"}


def matrix(home: Home, design: str) -> xr.Dataset:
    """The one that shows the design's choice of generators."""
    stored = (artefact.read() for artefact in home.store.all("logit_js_matrix"))
    (dataset,) = (value for value in stored if value.attrs["generators_shown"] == SHOWN[design])
    return dataset


def test_landmarks_take_what_the_full_design_measured(said: Mapping[str, str], home: Home) -> None:
    assert computed(said["landmarks"]) == set()
    few, full = matrix(home, "landmarks"), matrix(home, "full")
    assert few.attrs["generators_measured"] == "assistant, villain"
    own = few.js.sel(generators="source")
    np.testing.assert_array_equal(own.sel(persona="villain"), full.js.sel(generators="source", persona="villain"))
    assert own.sel(persona="comedian", other="villain").isnull()


def test_the_error_of_landmarks_is_about_as_large_as_it_says(said: Mapping[str, str], home: Home) -> None:
    truth, few = (
        matrix(home, "full").js.sel(generators="all"),
        matrix(home, "landmarks").sel(generators="all_estimated"),
    )
    upper = np.triu_indices(3, 1)
    error = np.abs(few.js - truth).to_numpy()[upper]
    assert 0 < error.mean() < 0.5 * truth.to_numpy()[upper].mean()
    assert (error < 12.7 * few.js_error.to_numpy()[upper]).mean() > 0.6  # Student's t, one degree of freedom


def test_sources_compute_their_own_pairs_and_the_others_are_missing(said: Mapping[str, str], home: Home) -> None:
    assert computed(said["sources"]) == {("logit_js", "villain")}
    js = matrix(home, "sources").js.sel(generators="sources")
    known = js.notnull()
    assert known.sel(persona="villain").all()
    assert known.sel(other="villain").all()
    others = [name for name in STUDY.personas if name != "villain"]
    assert int(known.sel(persona=others, other=others).sum()) == len(others)  # a persona with itself
    own = matrix(home, "full").js.sel(generators="source", persona="villain")
    np.testing.assert_array_equal(js.sel(persona="villain"), own.sel(other=js.other))
    assert "over 2 pairs" in said["sources"]


def test_the_report_of_a_part_says_whose_responses_it_is_of(said: Mapping[str, str], home: Home) -> None:
    pages = [artefact.read()["report.html"].decode() for artefact in home.store.all("report")]
    for design, words in (("landmarks", "every generator, estimated from the landmarks"), ("sources", "the sources")):
        assert sum(f"responses of {words} to" in page for page in pages) == 1, design
    made_from = [artefact.made_from["study"] for artefact in home.store.all("logit_js")]
    assert [study["generator"] for study in made_from if "paired_with" in study] == ["villain"]
