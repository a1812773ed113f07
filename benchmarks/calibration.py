"""Level of the tests and coverage of the intervals in simulated studies, whose true values are known.

    python -m benchmarks.calibration --studies 2000 --out benchmarks/results/calibration.md

Personas are points in a space. JS is their distance, and cosine their similarity in a space that shares some of the
dimensions, so both have the row and column structure of dyads. The marker's counts are binomial with effects of source,
target and dyad:

    logit p = −2 + a_source + b_target + e_dyad − slope · (z(JS) − z(cosine)),   found ~ Binomial(200, p).

`no relation`: slope 0. `equally related`: JS and cosine have the same slope, so neither predicts better. Reported are
the share of studies in which a true null hypothesis is rejected at 5 % (the level), and the share of 95 % intervals
that contain the true value (the coverage). The true ρ under `equally related` is the mean over large studies with 60
sources. Personas are exchangeable here; `benchmarks.calibration_kinds` has personas in kinds.
"""

import argparse
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration_tables import HEADING
from persona_assets.statistics.binomial import binomial_mixed
from persona_assets.statistics.correlations import iid_correlation
from persona_assets.statistics.dependent import aligned, steiger, zou
from persona_assets.statistics.dyadic_errors import dyadic_ols, left_out_slopes
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.families.sample import Sample, Settings
from persona_assets.statistics.jackknife import jackknife_interval, left_out_weights
from persona_assets.statistics.mrqap import mrqap
from persona_assets.statistics.nested_models import linear_model
from persona_assets.statistics.permutation import two_sided
from persona_assets.statistics.statement import Interval, UnanswerableError

Floats = NDArray[np.float64]

DESIGNS = {"5 × 10": 5, "11 × 10": 11}
SCENARIOS = {"no relation": 0.0, "equally related": 0.7}
PERSONAS, TOTAL = 11, 200
SOURCE_SD, TARGET_SD, DYAD_SD = 1.2, 0.6, 0.6
SHARED, OWN = 3, 2  # numbers of dimensions that JS and cosine share, and that each has alone
JS, COSINE = "js", "cosine_study_layer0"
ALPHA = 0.05


def main() -> None:
    """Print the tables and write them to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--mixed-studies", type=int, default=200, help="studies of the binomial mixed model")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    start = time.perf_counter()
    lines = []
    for design, sources in DESIGNS.items():
        for scenario, slope in SCENARIOS.items():
            lines += simulate(design, sources, scenario, slope, arguments.studies, arguments.mixed_studies)
            print(f"{design}, {scenario}: {time.perf_counter() - start:.0f} s", flush=True)
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "statsmodels"))
    heading = [
        "How often a true null hypothesis is rejected at 5 %, and how often a 95 % interval contains the true value.",
        "",
        f"`python -m benchmarks.calibration --studies {arguments.studies}`, {date.today()}, {versions}.",
        f"{arguments.studies:,} studies per row ({arguments.mixed_studies} for the mixed model), {PERSONAS} personas, "
        f"{TOTAL} replies per dyad; sd of source {SOURCE_SD}, target {TARGET_SD}, dyad {DYAD_SD} on the logit scale. "
        "A share of 5 % of 2,000 studies has a 95 % interval of ± 1 %.",
        "",
        "| design | truth | question | method | rejects a true null | contains the truth | not computed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    text = "\n".join([*heading, *lines, ""])
    print(text)
    if arguments.out:
        before = arguments.out.read_text(encoding="utf-8") if arguments.out.exists() else ""
        _, heading, kinds = before.partition(HEADING)  # of benchmarks.calibration_kinds
        arguments.out.write_text(f"{text}\n{heading}{kinds}" if heading else text, encoding="utf-8")


def simulate(design: str, sources: int, scenario: str, slope: float, studies: int, mixed: int) -> list[str]:
    """Return the table's rows for one design and scenario."""
    rejected: dict[tuple[str, str], list[float]] = defaultdict(list)
    covered: dict[tuple[str, str], list[float]] = defaultdict(list)
    unanswered: dict[tuple[str, str], set[int]] = defaultdict(set)
    truth = true_correlations(slope)
    rng = np.random.default_rng([20, sources, round(10 * slope)])
    for number in range(studies):
        dyads = draw_study(rng, PERSONAS, sources, slope)
        for key, null, value, question in questions(dyads, truth, scenario, number < mixed):
            try:
                answer = question()
            except UnanswerableError:
                unanswered[key].add(number)
                continue
            if isinstance(answer, Interval):
                covered[key].append(float(answer.low <= value <= answer.high))
            elif null:
                rejected[key].append(float(answer <= ALPHA))
    keys = dict.fromkeys([*rejected, *covered, *unanswered])
    return [
        f"| {design} | {scenario} | {question} | {method} | {_share(rejected[question, method])} | "
        f"{_share(covered[question, method])} | {len(unanswered[question, method]) or ''} |"
        for question, method in keys
    ]


def questions(
    dyads: Dyads, truth: tuple[float, float], scenario: str, mixed: bool
) -> Iterator[tuple[tuple[str, str], bool, float, Callable[[], float | Interval]]]:
    """Yield (question, method), whether the null hypothesis is true, the true value, and a function that answers.

    The function returns a p-value or an interval.
    """
    sample = Sample(dyads, (JS, COSINE), Settings(permutations=499, resamples=500, seed=1))
    null = scenario == "no relation"
    x, y, level = dyads.at(JS), dyads.outcome, sample.settings.level

    def rho(matrices: Floats) -> Floats:
        return np.asarray(matrices[:, 0, 1])

    def difference(matrices: Floats) -> Floats:
        return np.asarray(np.abs(matrices[:, 0, 1]) - np.abs(matrices[:, 0, 2]))

    def triple() -> tuple[float, float, float]:
        observed = sample.observed["spearman"]
        return aligned(float(observed[0, 1]), float(observed[0, 2]), float(observed[1, 2]))

    relation, better, beside = "JS goes with leakage (ρ)", "JS is better than cosine (|ρ|)", "JS beside cosine"
    js = Sample(dyads, (JS,), sample.settings)
    yield (relation, "iid t test, Fisher interval"), null, truth[0], lambda: iid_correlation(x, y, "spearman")[2].p
    yield (relation, "iid t test, Fisher interval"), null, truth[0], lambda: iid_correlation(x, y, "spearman")[1]
    yield (relation, "QAP"), null, truth[0], lambda: two_sided(js.relabelled("spearman")[:, 0], js.relabellings).p
    for way, named in (("sources", "cluster bootstrap over sources"), ("two-way", "two-way bootstrap")):
        yield (relation, named), null, truth[0], lambda way=way: sample.bootstrap(way, "spearman", rho)
        yield (better, named), True, 0.0, lambda way=way: sample.bootstrap(way, "spearman", difference)
    yield (relation, "jackknife over sources"), null, truth[0], lambda: sample.jackknife("spearman", rho)
    if not null:  # without a relation there is no difference of |ρ| to test
        yield (better, "iid Steiger, Zou interval"), True, 0.0, lambda: steiger(*triple(), dyads.n).p
        yield (better, "iid Steiger, Zou interval"), True, 0.0, lambda: zou(*triple(), dyads.n, level, "spearman")
    yield (better, "jackknife over sources"), True, 0.0, lambda: sample.jackknife("spearman", difference, fisher=False)
    if null:
        columns = np.stack([x, dyads.at(COSINE)])
        yield (beside, "iid OLS"), True, 0.0, lambda: linear_model(y, columns).p[0].p
        yield (beside, "iid OLS"), True, 0.0, lambda: linear_model(y, columns).intervals[0]
        robust = "OLS, dyadic-robust errors"
        yield (beside, robust), True, 0.0, lambda: dyadic_ols(y, columns, dyads.source, dyads.target, level).p[0].p
        yield (
            (beside, robust),
            True,
            0.0,
            lambda: dyadic_ols(y, columns, dyads.source, dyads.target, level).intervals[0],
        )
        yield (beside, "OLS, jackknife over sources"), True, 0.0, lambda: _jackknife_slope(dyads, columns)
        for ranks, named in ((True, "MRQAP of ranks"), (False, "MRQAP of rates")):
            yield (
                (beside, named),
                True,
                0.0,
                lambda ranks=ranks: mrqap(dyads, sample.predictors, sample.relabellings, ranks)[JS].p,
            )
        if mixed:
            fitted = "binomial mixed model"
            predictors = {name: dyads.at(name) for name in sample.predictors}
            arguments = (dyads.found, dyads.total, predictors, dyads.source, dyads.target, level)
            yield (beside, fitted), True, 0.0, lambda: binomial_mixed(*arguments).p[JS].p
            yield (beside, fitted), True, 0.0, lambda: binomial_mixed(*arguments).intervals[JS]


def draw_study(rng: np.random.Generator, personas: int, sources: int, slope: float) -> Dyads:
    """Simulate one study: personas, their JS and cosine, and the counts of the marker."""
    shared, of_js, of_cosine = (rng.normal(size=(personas, size)) for size in (SHARED, OWN, OWN))
    js, cosine = (_distances(np.hstack([shared, own])) for own in (of_js, of_cosine))
    source, target = (np.array(side) for side in zip(*_pairs(personas, sources), strict=True))
    x, z = (_standard(matrix, source, target) for matrix in (js, cosine))
    effects = rng.normal(0, SOURCE_SD, personas)[source] + rng.normal(0, TARGET_SD, personas)[target]
    noise = rng.normal(0, DYAD_SD, len(source))
    p = 1 / (1 + np.exp(2 - effects - noise + slope * (x + z)))
    found = rng.binomial(TOTAL, p).astype(np.float64)
    total = np.full(len(found), float(TOTAL))
    np.fill_diagonal(js, np.nan)
    likeness = -cosine
    np.fill_diagonal(likeness, np.nan)
    names = tuple(f"p{number}" for number in range(personas))
    rate = found / TOTAL
    return Dyads(names, source, target, rate, found, total, {JS: js, COSINE: likeness}, ("",) * personas)


def true_correlations(slope: float) -> tuple[float, float]:
    """Return ρ of leakage with JS and with cosine in large studies."""
    if slope == 0:
        return 0.0, 0.0
    rng = np.random.default_rng(7)
    large = [Sample(draw_study(rng, 61, 60, slope), (JS, COSINE), Settings()).observed["spearman"] for _ in range(60)]
    js, cosine = np.mean(large, axis=0)[0, 1:]
    return float(js), float(cosine)


def _jackknife_slope(dyads: Dyads, columns: Floats) -> Interval:
    left_out = left_out_slopes(dyads.outcome, columns, left_out_weights(dyads.source))[:, 0]
    slope = linear_model(dyads.outcome, columns).slopes[0]
    return jackknife_interval(slope, left_out, 0.95, "", "", transform="none")


def _pairs(personas: int, sources: int) -> list[tuple[int, int]]:
    return [(source, target) for source in range(sources) for target in range(personas) if source != target]


def _distances(places: Floats) -> Floats:
    return np.asarray(np.linalg.norm(places[:, None] - places[None], axis=-1))


def _standard(matrix: Floats, source: NDArray[np.int64], target: NDArray[np.int64]) -> Floats:
    values = matrix[source, target]
    return np.asarray((values - values.mean()) / values.std())


def _share(hits: list[float]) -> str:
    return f"{100 * np.mean(hits):.1f} %" if hits else ""


if __name__ == "__main__":
    main()
