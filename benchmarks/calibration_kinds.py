"""Level, coverage and power of the tests in simulated studies whose personas come in kinds.

    nice python -m benchmarks.calibration_kinds --studies 1000 --slow 200 --models 40

`benchmarks.kind_studies` has the model. Tests by relabelling are run on all studies with 99 random relabellings, which
is enough for an exact test at 5 %; `benchmarks.relabelled_studies` computes many studies at once. Intervals are made
for the first `--slow` studies of a scenario, mixed models for the first `--models`. The section "Personas in kinds" of
results/calibration.md is replaced, and every row is written to results/calibration_kinds.csv.
"""

import argparse
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.calibration_tables import section
from benchmarks.kind_studies import COSINE, JS, OUTCOMES, Scenario, Study, World
from benchmarks.relabelled_studies import Relabelled, relabel
from persona_assets.statistics.binomial import binomial_mixed
from persona_assets.statistics.correlations import iid_correlation
from persona_assets.statistics.dyadic_errors import dyadic_ols
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.families.sample import Sample, Settings
from persona_assets.statistics.kinds import inverted
from persona_assets.statistics.linear_mixed import linear_mixed
from persona_assets.statistics.statement import Interval, UnanswerableError

Floats = NDArray[np.float64]

RESULTS = Path(__file__).parent / "results"
DESIGNS = ((12, 5), (12, 12), (24, 8), (24, 24))
ALPHA, LEVEL, BATCH = 0.05, 0.95, 20
INTERVALS = (1, 2)  # outcomes with intervals over resampled sources: mostly 0, and expected rate

NULL = [Scenario(11, 5, 0, 0.3, 1.0)]
NULL += [Scenario(*design, kinds, 0.3, 1.0) for design in DESIGNS for kinds in (2, 3, 4, 5)]
MILD = ((0.3, 0.0), (0.3, 0.5), (1.0, 1.0))
NULL += [Scenario(*design, 4, spread, amplitude) for design in DESIGNS[:3] for spread, amplitude in MILD]
RELATED = [Scenario(11, 5, 0, 0.3, 1.0, 0.5, 0.5)]
RELATED += [Scenario(*design, 4, spread, 1.0, 0.5, 0.5) for design in DESIGNS for spread in (0.3, 1.0)]
COSINE_ALONE = [Scenario(*design, 4, 0.3, 1.0, 0.0, 0.8) for design in DESIGNS]
NOTHING, EQUAL, ALONE = "nothing is related", "both equally related", "only cosine is related"
TRUTHS = {NOTHING: NULL, EQUAL: RELATED, ALONE: COSINE_ALONE}

Hits = dict[tuple[str, str, str], list[float]]  # (outcome, test, what) → 1.0 or 0.0 a study


def main() -> None:
    """Simulate, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=200, help="studies of intervals over resampled sources")
    parser.add_argument("--models", type=int, default=40, help="studies of mixed models")
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    asked = [(truth, scenario) for truth, scenarios in TRUTHS.items() for scenario in scenarios]
    asked.sort(key=lambda one: one[1].personas * one[1].sources)
    rows, start = [], time.perf_counter()
    sizes = (arguments.studies, arguments.slow, arguments.models)
    counts = "--studies {} --slow {} --models {}".format(*sizes)
    made = f"`python -m benchmarks.calibration_kinds {counts}`, {date.today()}"
    with ProcessPoolExecutor(arguments.processes) as processes:
        running = {processes.submit(simulate, *one, *sizes): one for one in asked}
        for number, done in enumerate(as_completed(running), start=1):
            rows += done.result()
            write(pd.DataFrame(rows), made if number == len(asked) else f"{made}, {number} of {len(asked)} scenarios")
            print(*running[done], f"after {time.perf_counter() - start:.0f} s", flush=True)


def write(rows: pd.DataFrame, made: str) -> None:
    """Write all rows and the tables, after every scenario."""
    order = {truth: number for number, truth in enumerate(TRUTHS)}
    about = [*Scenario.__dataclass_fields__]
    rows = rows.sort_values(
        ["truth", *about], key=lambda of: of.map(order) if of.name == "truth" else of, kind="stable"
    )
    rows.to_csv(RESULTS / "calibration_kinds.csv", index=False, float_format="%.4g")
    page = RESULTS / "calibration.md"
    page.write_text(section(page.read_text(encoding="utf-8"), rows, made), encoding="utf-8")


def simulate(truth: str, scenario: Scenario, studies: int, slow: int, models: int) -> list[dict[str, object]]:
    """Return one row per outcome, test and what is counted: the share of studies in which it rejects or covers."""
    warnings.simplefilter("ignore", RuntimeWarning)
    rng = np.random.default_rng([23, scenario.personas, scenario.sources, scenario.kinds, len(truth)])
    hits: Hits = defaultdict(list)
    for first in range(0, studies, BATCH):
        worlds = [World(rng, scenario) for _ in range(BATCH)]
        batch = [world.study(rng) for world in worlds]
        made = relabel(batch, rng, check=not first)
        for (outcome, test), samples in made.tests.items():
            for p in _p(samples):
                _count(hits, outcome, test, p)
        for number in range(max(0, min(BATCH, slow - first))):
            _true_values(hits, batch[number], made, number, worlds[number], rng, truth)
        for number in range(max(0, min(BATCH, models - first))):
            if scenario.kinds == 4 and scenario.spread < 1 and scenario.amplitude == 1 and truth != EQUAL:
                _models(hits, batch[number])
    about = {"truth": truth, **vars(scenario)}
    return [
        {**about, "outcome": outcome, "test": test, "what": what, "share": np.mean(found), "studies": len(found)}
        for (outcome, test, what), found in hits.items()
    ]


def _true_values(
    hits: Hits, study: Study, made: Relabelled, number: int, world: World, rng: np.random.Generator, truth: str
) -> None:
    """Compare intervals with the true values."""
    if truth == ALONE:
        return
    overall, inside = world.truths(rng)
    inside = inside if truth == EQUAL else np.zeros_like(inside)
    for outcome, name in enumerate(OUTCOMES):
        dyads = study.dyads(outcome)
        if np.ptp(dyads.outcome) == 0:
            continue
        apart = abs(inside[outcome]) @ [1, -1]
        for test, value, fisher in (
            ("ρ within kinds", inside[outcome, 0], True),
            ("difference of |ρ| within kinds", apart, False),
        ):
            samples = made.tests[name, test][number]
            if not math.isnan(samples[0]):
                interval = inverted(samples, LEVEL, made.inside, fisher)
                hits[name, f"{test}, interval", "covers"].append(float(interval.low <= value <= interval.high))
        if outcome in INTERVALS:
            _intervals(hits, name, dyads, overall[outcome], truth == NOTHING)
        if truth == NOTHING:
            _ask(hits, name, "ρ, iid t test", _iid, dyads)
            _ask(hits, name, "JS beside cosine, OLS, dyadic-robust", _robust, dyads)


def _intervals(hits: Hits, outcome: str, dyads: Dyads, truth: Floats, null: bool) -> None:
    sample = Sample(dyads, (JS, COSINE), Settings(resamples=200, seed=1))

    def rho(matrices: Floats) -> Floats:
        return np.asarray(matrices[:, 0, 1])

    def difference(matrices: Floats) -> Floats:
        return np.asarray(np.abs(matrices[:, 0, 1]) - np.abs(matrices[:, 0, 2]))

    apart = float(abs(truth[0]) - abs(truth[1]))
    for named, statistic, value in (("ρ", rho, float(truth[0])), ("difference of |ρ|", difference, apart)):
        # With five sources, the bootstrap over sources has 3,125 resamples; calibration.py has that case.
        ways = ["two-way bootstrap", "jackknife over sources", "bootstrap over sources"]
        for way in ways[:2] if sample.ways[0] == "sources" else ways:
            try:
                interval = _interval(sample, way, statistic, fisher=named == "ρ")
            except UnanswerableError:
                continue
            hits[outcome, f"{named}, {way}", "covers"].append(float(interval.low <= value <= interval.high))
            if null:
                hits[outcome, f"{named}, {way}", "rejects"].append(float(interval.low > 0 or interval.high < 0))


def _interval(sample: Sample, way: str, statistic: Callable[[Floats], Floats], fisher: bool) -> Interval:
    if way == "jackknife over sources":
        return sample.jackknife("spearman", statistic, fisher)
    return sample.bootstrap("sources" if way == "bootstrap over sources" else "two-way", "spearman", statistic)


def _models(hits: Hits, study: Study) -> None:
    """Fit mixed models of the counts and of the gain in log-probability, if the study is small."""
    if len(study.source) < 200:
        _ask(hits, OUTCOMES[0], "JS beside cosine, binomial mixed model", _binomial, study.dyads(0))
        _ask(hits, OUTCOMES[3], "JS beside cosine, linear mixed model", _linear, study.dyads(3))


def _iid(dyads: Dyads) -> float:
    return iid_correlation(dyads.at(JS), dyads.outcome, "spearman")[2].p


def _robust(dyads: Dyads) -> float:
    return dyadic_ols(dyads.outcome, np.stack([dyads.at(JS), dyads.at(COSINE)]), dyads.source, dyads.target).p[0].p


def _binomial(dyads: Dyads) -> float:
    columns = {name: dyads.at(name) for name in (JS, COSINE)}
    return binomial_mixed(dyads.found, dyads.total, columns, dyads.source, dyads.target).p[JS].p


def _linear(dyads: Dyads) -> float:
    columns = {name: dyads.at(name) for name in (JS, COSINE)}
    return linear_mixed(dyads.outcome, columns, dyads.source, dyads.target).p[JS].p


def _p(samples: Floats) -> list[float]:
    """Return p of every study, from its statistics (studies, R) with the observed one first; NaN if undefined."""
    hits = np.abs(np.nan_to_num(samples)) >= np.abs(samples[:, :1]) - 1e-12
    return [float(p) for p in np.where(np.isnan(samples[:, 0]), np.nan, hits.mean(axis=1))]


def _count(hits: Hits, outcome: str, test: str, p: float) -> None:
    if math.isnan(p):
        hits[outcome, test, "not computed"].append(1.0)
    else:
        hits[outcome, test, "rejects"].append(float(p <= ALPHA + 1e-12))


def _ask(hits: Hits, outcome: str, test: str, answer: Callable[[Dyads], float], dyads: Dyads) -> None:
    try:
        _count(hits, outcome, test, answer(dyads))
    except UnanswerableError:
        hits[outcome, test, "not computed"].append(1.0)


if __name__ == "__main__":
    main()
