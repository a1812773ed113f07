"""Every number of the reference's table "What the published tables say", to the digits printed in its README.

The expected digits are read from the README's rows, the data from the files beside it.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from persona_assets.statistics.correlations import iid_correlation, iid_partial
from persona_assets.statistics.coupling import couple
from persona_assets.statistics.nested_models import nested_ols
from persona_assets.statistics.statement import tabulate

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference"
HEADING = "## What the published tables say"
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?")
JS, COSINE = "js", "cosine_l20_centred11"


@dataclass(frozen=True)
class Published:
    dyads: pd.DataFrame
    coupling: pd.DataFrame
    js: NDArray[np.float64]
    cosine: NDArray[np.float64]
    stored: dict[str, Any]

    def at(self, *columns: str) -> NDArray[np.float64]:
        """Return columns of the dyads, shape (k, n)."""
        return self.dyads[list(columns)].to_numpy().T

    def leakage(self, predictor: str) -> list[float]:
        r, _, p = iid_correlation(*self.at(predictor, "leakage_rate"), "spearman")
        return [r, p.p]

    def partial(self, predictor: str, given: str) -> list[float]:
        r, _, p = iid_partial(*self.at(predictor, "leakage_rate"), self.at(given), "spearman")
        return [r, p.p]

    def adding(self, added: str, base: str) -> list[float]:
        models = nested_ols(self.at("leakage_rate")[0], self.at(base), self.at(added))
        explained = [models.delta_r2, models.r2_base, models.r2_full]
        return [*explained, models.df_added, models.df_residual, models.f, models.p.p]

    def coupled(self, name: str, view: str = "iid") -> pd.Series:
        table = self.coupling.rename(columns={"js_assistant": "js", "cosine_assistant_l10": "cosine"})
        statements = couple(table[["persona", "source_rate", "js", "cosine"]], 0.95, permutations=999, seed=0)
        return tabulate(statements).set_index(["name", "view"]).loc[(name, view)]


def coupling(name: str) -> Callable[[Published], list[float]]:
    return lambda run: run.coupled(name)[["estimate", "p"]].tolist()


def redundancy(run: Published) -> list[float]:
    pairs = np.triu_indices(len(run.js), k=1)
    r, _, p = iid_correlation(run.js[pairs], run.cosine[pairs], "spearman", unit="pair")
    return [r, p.p]


def spread(run: Published) -> list[float]:
    js = run.js[np.triu_indices(len(run.js), k=1)]
    return [js.min(), js.max(), js.max() / js.min(), js.mean(), js.std(ddof=0)]


COMPUTED: dict[str, Callable[[Published], Sequence[float]]] = {
    "JS–leakage, 50 directed pairs": lambda run: run.leakage(JS),
    "cosine–leakage, layer 20": lambda run: run.leakage(COSINE),
    "JS–cosine, 55 pairs, layer 20": redundancy,
    "partial Spearman JS, leakage given cosine": lambda run: run.partial(JS, COSINE),
    "partial Spearman cosine, leakage given JS": lambda run: run.partial(COSINE, JS),
    "ΔR² adding JS to leakage ~ cosine": lambda run: run.adding(JS, COSINE),
    "ΔR² adding cosine to leakage ~ JS": lambda run: run.adding(COSINE, JS),
    "JS range, ratio, mean, sd over 55 pairs": spread,
    "coupling: cosine(assistant) vs source rate": coupling("pearson: source_rate ~ cosine"),
    "coupling: JS(assistant) vs source rate": coupling("pearson: source_rate ~ js"),
    "coupling: cosine vs JS": coupling("pearson: js ~ cosine"),
}
QUOTED = "cosine–leakage, layers 10 / 15 / 25"


@pytest.fixture(scope="module")
def table() -> dict[str, list[Decimal]]:
    """Read row → the numbers printed in the README, with their digits."""
    readme = REFERENCE / "README.md"
    if not readme.is_file():
        pytest.skip(f"the published run is not there: {readme}")
    section = readme.read_text(encoding="utf-8").split(HEADING)[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {label: [Decimal(n) for n in NUMBER.findall(value.replace("−", "-"))] for label, value, _ in rows[2:]}


@pytest.fixture(scope="module")
def published() -> Published:
    folder = REFERENCE / "qwen2.5-7b-instruct"
    if not folder.is_dir():
        pytest.skip(f"the published run is not there: {folder}")
    matrices, cosines, stored = (
        json.loads((folder / name).read_text())
        for name in ("divergence_matrices.json", "cosine_11_l20.json", "analysis_results.json")
    )
    assert matrices["persona_names"] == cosines["persona_names"]
    return Published(
        dyads=pd.read_csv(folder / "dyads50.csv"),
        coupling=pd.read_csv(folder / "coupling10.csv"),
        js=np.array(matrices["js_matrix"]),
        cosine=np.array(cosines["cosine_matrix_l20"]),
        stored=stored,
    )


def to_the_digits_of(printed: Sequence[Decimal], values: Sequence[float]) -> list[Decimal]:
    return [Decimal(float(value)).quantize(digits) for digits, value in zip(printed, values, strict=True)]


def test_every_row_of_the_table_is_computed_or_quoted(table: dict[str, list[Decimal]]) -> None:
    assert set(table) == {*COMPUTED, QUOTED}
    assert sum(map(len, table.values())) == 41


@pytest.mark.parametrize("row", COMPUTED)
def test_the_published_number_is_computed_to_its_printed_digit(
    row: str, table: dict[str, list[Decimal]], published: Published
) -> None:
    assert to_the_digits_of(table[row], COMPUTED[row](published)) == table[row]


def test_layers_without_centroids_are_quoted_from_the_stored_results_not_computed(
    table: dict[str, list[Decimal]], published: Published
) -> None:
    layers = published.stored["leakage_comparison"]["cosine_matched"]
    stored = [layers[f"layer_{layer}"][key] for layer in (10, 15, 25) for key in ("spearman_rho", "spearman_p")]
    assert to_the_digits_of(table[QUOTED], stored) == table[QUOTED]


def test_a_wrong_last_digit_is_detected() -> None:
    printed = [Decimal("-0.7456"), Decimal("5.24e-10"), Decimal(".24")]
    assert to_the_digits_of(printed, [-0.74558, 5.2432e-10, 0.2415]) == printed
    for wrong in ([-0.7455, 5.24e-10, 0.24], [-0.7456, 5.25e-10, 0.24], [-0.7456, 5.24e-10, 0.25]):
        assert to_the_digits_of(printed, wrong) != printed


def test_williams_cannot_tell_cosine_from_js(published: Published) -> None:
    # "What careful inference says of the same data": p ≈ .69
    row = published.coupled("difference of |pearson|: source_rate ~ js − cosine")
    assert round(row["p"], 2) == 0.69
    assert row["low"] < 0 < row["high"]


def test_without_librarian_alone_js_couples(published: Published) -> None:
    # "without librarian JS alone gives r = +0.89"
    note = published.coupled("pearson: source_rate ~ js", "dyadic")["note"]
    assert "+0.89 (without librarian); librarian has the largest influence" in note
    others = published.coupling[published.coupling["persona"] != "librarian"]
    r, _, _ = iid_correlation(others["js_assistant"].to_numpy(), others["source_rate"].to_numpy(), "pearson")
    assert round(r, 2) == 0.89
