"""How well a part of a study ranks the pairs: cost and error with fewer questions, shorter responses, or landmarks.

    python -m benchmarks.cost_error [--published FOLDER] [--out benchmarks/results/cost_error.md]

There are two full matrices: the embedded model's 33 personas (from `design_data`), and the 11 of a published run if its
folder is given; the published run has no JS per token. Parts are drawn at random. The cost is the share of scored
tokens. The error is 1 − Spearman between the pairs' JS in the part and in the full study, which contains the part. The
same is computed against the questions that the part left out, which shows how well a ranking holds for new questions.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.ticker import NullFormatter
from scipy.stats import spearmanr
from scipy.stats import t as student

from benchmarks.design_data import read
from benchmarks.reporting import heading, table
from persona_assets.metrics import average_over_responses, estimate_over_all
from persona_assets.presentation.layout.style import (
    INK,
    MUTED,
    TWO_COLUMNS,
    add_axes,
    add_text,
    house_style,
    new_figure,
)
from persona_assets.published.run import read_published_run

DRAWS, WANTED, LEVEL = 40, 0.99, 0.95
Row = dict[str, object]


@dataclass(frozen=True)
class Whole:
    """A full study: JS (tokens, generator, question, persona, other); `tokens` are lengths, the last is complete."""

    name: str
    js: xr.DataArray

    @property
    def personas(self) -> int:
        return self.js.sizes["persona"]

    @property
    def questions(self) -> int:
        return self.js.sizes["question"]

    @property
    def lengths(self) -> list[int]:
        return [int(length) for length in self.js.tokens.values]

    @property
    def full(self) -> tuple[int, int, int]:
        return self.personas, self.questions, self.lengths[-1]

    def at_pairs(self, matrix: xr.DataArray) -> np.ndarray:
        return matrix.to_numpy()[np.triu_indices(self.personas, 1)]

    def over_all(self, questions: list[int] | None = None) -> np.ndarray:
        js = self.js.isel(tokens=-1)
        return self.at_pairs(average_over_responses(js if questions is None else js.isel(question=questions)))


@dataclass(frozen=True)
class Found:
    """Draws of one size: Spearman with the full study and with left-out questions, and the error of the estimate."""

    whole: np.ndarray
    others: np.ndarray
    plain: np.ndarray  # Spearman of the plain mean over landmarks
    level: np.ndarray  # rms of (estimate / full study − 1)
    covered: np.ndarray


def published(folder: Path) -> Whole:
    run = read_published_run(folder, "assistant")
    js = xr.concat([each.js.assign_coords(generator=name) for name, each in run.logit_js.items()], dim="generator")
    return Whole("published, Qwen2.5-7B-Instruct", js.expand_dims(tokens=[416]))


def tried(study: Whole, landmarks: int, questions: int, tokens: int, draws: int = DRAWS) -> Found:
    """Draw random parts of one size."""
    random, whole = np.random.default_rng([landmarks, questions, tokens]), study.over_all()
    found = [_one(study, landmarks, questions, tokens, whole, random) for _ in range(draws)]
    return Found(*(np.array(each) for each in zip(*found, strict=True)))


def _one(
    study: Whole, landmarks: int, questions: int, tokens: int, whole: np.ndarray, random: np.random.Generator
) -> tuple[float, float, float, float, float]:
    asked = np.sort(random.choice(study.questions, questions, replace=False)).tolist()
    writers = np.sort(random.choice(study.personas, landmarks, replace=False))
    part = study.js.sel(tokens=tokens).isel(question=asked, generator=writers)
    estimate = estimate_over_all(part, LEVEL)
    js = study.at_pairs(estimate.estimate)
    rest = [place for place in range(study.questions) if place not in asked]
    others = spearmanr(js, study.over_all(rest)).statistic if rest else np.nan
    plain = study.at_pairs(average_over_responses(part, "landmarks"))
    same = study.over_all(asked)  # what is estimated: all generators, the same questions
    reach = student.ppf(0.5 + LEVEL / 2, landmarks - 1) * study.at_pairs(estimate.error)
    covered = float(np.mean(np.abs(js - same) <= reach)) if landmarks < study.personas else np.nan
    level = float(np.sqrt(np.mean((js / same - 1) ** 2)))
    return spearmanr(js, whole).statistic, others, spearmanr(plain, whole).statistic, level, covered


def cost(study: Whole, landmarks: int, questions: int, tokens: int) -> float:
    """Return the share of scored tokens; every landmark's response is scored under every prompt."""
    return landmarks * questions * tokens / float(np.prod(study.full))


def sizes(study: Whole) -> dict[str, list[tuple[int, int, int]]]:
    """Return curve → the sizes along it."""
    personas, questions, tokens = study.full
    few = [m for m in (2, 3, 4, 6, 8, 12, 16, 24) if m < personas]
    asked = [q for q in (1, 2, 3, 4, 5, 6, 8, 10, 15) if q < questions]
    curves = {
        "fewer questions": [(personas, q, tokens) for q in [*asked, questions]],
        "landmarks": [(m, questions, tokens) for m in [*few, personas]],
    }
    if len(study.lengths) > 1:
        curves["shorter responses"] = [(personas, questions, length) for length in study.lengths]
    return curves


def grid(study: Whole) -> Iterator[tuple[int, int, int]]:
    """Yield combinations of all three, cheapest first."""
    personas, questions, _ = study.full
    all_sizes = [
        (m, q, length)
        for m in [m for m in (2, 3, 4, 5, 6, 8, 12, personas) if m <= personas]
        for q in [q for q in (1, 2, 4, 6, 8, 10, 15, 20) if q <= questions]
        for length in study.lengths
    ]
    yield from sorted(dict.fromkeys(all_sizes), key=lambda size: cost(study, *size))


def row(study: Whole, size: tuple[int, int, int], found: Found) -> Row:
    landmarks, questions, tokens = size
    low = np.quantile(found.whole, 0.05)
    return {
        "landmarks": f"{landmarks} of {study.personas}",
        "questions": questions,
        "tokens": tokens if len(study.lengths) > 1 else "all",
        "cost": f"{cost(study, *size):.1%}",
        "Spearman with the whole: mean (5th percentile)": f"{found.whole.mean():.4f} ({low:.4f})",
        "with the questions left out": "–" if np.isnan(found.others).all() else f"{found.others.mean():.3f}",
    }


def estimator_row(study: Whole, size: tuple[int, int, int], found: Found) -> Row:
    return {
        "landmarks": f"{size[0]} of {study.personas}",
        "Spearman, mean over landmarks": f"{found.plain.mean():.4f}",
        "Spearman, estimated": f"{found.whole.mean():.4f}",
        "level's error (rms)": f"{found.level.mean():.1%}",
        f"{LEVEL:.0%} intervals that contain the full study's value": "–"
        if np.isnan(found.covered).all()
        else f"{np.nanmean(found.covered):.0%}",
    }


def section(study: Whole) -> tuple[str, dict[str, list[tuple[float, float]]]]:
    """Return the tables of one study, and its curves as (cost, error)."""
    parts, curves = [f"## {study.name}: {study.personas} personas, {study.questions} questions"], {}
    for name, along in sizes(study).items():
        found = {size: tried(study, *size) for size in along}
        parts += [f"### {name.capitalize()}", table([row(study, size, each) for size, each in found.items()])]
        curves[name] = [
            (cost(study, *size), 1 - each.whole.mean()) for size, each in found.items() if size != study.full
        ]
        if name == "landmarks":
            rows = [estimator_row(study, size, each) for size, each in found.items()]
            parts += ["The estimate compared with the plain mean:", table(rows)]
    reached, front, best = [], [], 1.0
    for size in grid(study):
        found_here = tried(study, *size, draws=DRAWS // 2)
        error = 1 - float(found_here.whole.mean())
        if error < best:
            best = error
            front.append((cost(study, *size), error))
            reached.append(row(study, size, found_here))
        if np.quantile(found_here.whole, 0.05) >= WANTED:
            break
    curves["best of all"] = [point for point in front if point[1] > 0]
    parts += [
        "### Together",
        f"The cheapest part for each ranking, up to the first whose 5th percentile reaches {WANTED}:",
        table(reached),
    ]
    return "\n\n".join(parts), curves


def draw(curves: dict[str, dict[str, list[tuple[float, float]]]], path: Path) -> None:
    """Draw one panel per study: error against cost, both on logarithmic axes."""
    colours = {"fewer questions": "#0072B2", "landmarks": "#D55E00", "shorter responses": "#009E73", "best of all": INK}
    width = (TWO_COLUMNS - 16 - 18 * (len(curves) - 1) - 4) / len(curves)
    with house_style():
        figure = new_figure(TWO_COLUMNS, 84)
        title = "What a part of a study costs, and how far its ranking of pairs is from the whole’s"
        add_text(figure, 3, 3, title, size=8, weight="bold", color=INK)
        add_text(figure, 3, 7.5, "mean over random parts; below the line Spearman is above 0.99", color=MUTED, size=6.5)
        for place, (name, of_study) in enumerate(curves.items()):
            axes = add_axes(figure, 16 + place * (width + 18), 18, width, 54)
            for curve, points in of_study.items():
                cheapest = dict(sorted(points, reverse=True))
                shares = sorted(cheapest)
                style = {"lw": 1.6, "ls": "--"} if curve == "best of all" else {"lw": 1.0, "marker": "o", "ms": 3}
                errors = [cheapest[share] for share in shares]
                axes.plot([100 * share for share in shares], errors, color=colours[curve], label=curve, **style)
            axes.axhline(1 - WANTED, color=MUTED, lw=0.6)
            axes.set(xscale="log", yscale="log", xlabel="scored tokens (% of the whole)", ylabel="1 − Spearman")
            for axis in (axes.xaxis, axes.yaxis):  # default labels of powers of ten need math text, which is disabled
                axis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.set_minor_formatter(NullFormatter())
            axes.set_title(name)
            axes.legend(frameon=False, loc="lower left", fontsize=6)
        figure.savefig(path, dpi=200)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--published", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "cost_error.md")
    asked = parser.parse_args()
    studies = [Whole("embedded, SmolLM2-135M", read())]
    if asked.published:
        studies.insert(0, published(asked.published))
    texts, curves = [], {}
    for study in studies:
        text, curves[study.name] = section(study)
        texts.append(text)
        print(text, flush=True)
    draw(curves, asked.out.with_suffix(".png"))
    first = (
        "How well a part of a study ranks its pairs.\n\n`python -m benchmarks.cost_error`, "
        f"{heading()}\nMeans over {DRAWS} random parts of a size, {DRAWS // 2} where sizes are combined.\n"
        "For the published run only derived numbers are shown; those of the embedded study are the project's own "
        "(`benchmarks/design_data.py`)."
    )
    figure = f"![error against cost]({asked.out.stem}.png)"
    asked.out.write_text("\n\n".join([first, figure, *texts]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
