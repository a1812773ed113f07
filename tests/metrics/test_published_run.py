"""The averaging convention, compared with the published Qwen2.5-7B-Instruct run of superkaiba/explore-persona-space."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from persona_assets.metrics import average_over_responses, bootstrap_over_questions, estimate_over_all

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared/reference/qwen2.5-7b-instruct/divergence_matrices.json"


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    if not PUBLISHED.is_file():
        pytest.skip(f"the published run is not there: {PUBLISHED}")
    tables: dict[str, Any] = json.loads(PUBLISHED.read_text())
    return tables


@pytest.fixture(scope="module")
def responses(published: dict[str, Any]) -> xr.DataArray:
    names = published["persona_names"]
    questions = published["metadata"]["n_questions"]
    values = np.full((len(names), questions, len(names), len(names)), np.nan)
    values[:, :, range(len(names)), range(len(names))] = 0.0
    for response, pairs in published["per_prompt_js"].items():
        generator, question = divmod(int(response), questions)
        for pair, js in pairs.items():
            i, j = (names.index(name) for name in pair.split("__"))
            values[generator, question, i, j] = values[generator, question, j, i] = js
    return xr.DataArray(
        values,
        dims=("generator", "question", "persona", "other"),
        coords={"generator": names, "question": np.arange(questions), "persona": names, "other": names},
    )


def test_the_published_matrix_is_the_mean_over_all_generators(
    published: dict[str, Any], responses: xr.DataArray
) -> None:
    matrix = average_over_responses(responses, generators="all")
    np.testing.assert_allclose(matrix, published["js_matrix"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("generators", ["pair", "source", "target", "others"])
def test_no_other_subset_gives_the_published_matrix(
    published: dict[str, Any], responses: xr.DataArray, generators: str
) -> None:
    matrix = average_over_responses(responses, generators)
    assert float(np.abs(matrix - np.array(published["js_matrix"])).max()) > 1e-4


def test_the_published_range_and_spread_are_reproduced(responses: xr.DataArray) -> None:
    # shared/reference/README.md: range 0.0049–0.0522, ratio 10.68, mean 0.0265, sd (ddof = 0) 0.0123
    js = average_over_responses(responses).values[np.triu_indices(11, k=1)]
    assert [round(float(x), 4) for x in (js.min(), js.max(), js.mean(), js.std())] == [0.0049, 0.0522, 0.0265, 0.0123]
    assert round(float(js.max() / js.min()), 2) == 10.68


def test_every_published_mean_lies_within_its_interval(responses: xr.DataArray) -> None:
    low, high = bootstrap_over_questions(responses, "all", resamples=2000, seed=0)
    mean = average_over_responses(responses)
    assert bool(((low <= mean) & (mean <= high)).all())


def test_five_landmarks_nearly_reproduce_the_ranks_and_the_estimate_beats_the_mean(responses: xr.DataArray) -> None:
    upper, random = np.triu_indices(11, 1), np.random.default_rng(0)
    whole = average_over_responses(responses).to_numpy()[upper]
    found = []
    for _ in range(20):
        some = responses.isel(generator=np.sort(random.choice(11, 5, replace=False)))
        matrices = estimate_over_all(some).estimate, average_over_responses(some, "landmarks")
        found.append([spearmanr(matrix.to_numpy()[upper], whole).statistic for matrix in matrices])
    estimated, plain = np.mean(found, axis=0)
    assert 0.98 < plain < estimated < 0.99
