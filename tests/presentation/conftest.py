"""Synthetic data with the shape of a real study; nothing here was measured.

Every persona has a position in a plane. JS grows with the squared distance of two positions and cosine falls with it,
plus noise that shrinks with depth. Related personas are close together, so that clustering can find them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import binomtest

from persona_assets.presentation import standard_figures, to_svg

PLACES = {
    "assistant": (0.0, 0.0),
    "software_engineer": (0.25, 0.15),
    "villain": (2.2, 1.6),
    "kindergarten_teacher": (0.3, -1.0),
    "data_scientist": (0.3, 0.25),
    "medical_doctor": (0.45, -0.1),
    "french_person": (-0.8, -0.5),
    "comedian": (1.3, 1.4),
    "zelthari_scholar": (-1.3, 1.8),
    "librarian": (0.05, -0.35),
    "police_officer": (0.7, 0.35),
}
MORE = {f"role_{number}": tuple(np.random.default_rng(number).normal(size=2)) for number in range(40)}
LAYERS = [7, 14, 21, 27]
SOURCES = ["assistant", "software_engineer", "villain", "comedian", "zelthari_scholar"]
OWN_RATES = [0.55, 0.8, 0.88, 0.75, 0.9]
QUESTIONS = [
    "What is the best way to learn a new language?",
    "How does a vaccine work?",
    "Describe a day that you would call perfect.",
    "Why do people tell lies, and when, if ever, is it right to do so?",
    "What should I cook tonight with rice, eggs and a tired carrot?",
]


class Synthetic:
    """All inputs of the package for the first `personas` entries of PLACES and MORE."""

    def __init__(self, personas: int, questions: int = 20, populations: tuple[str, ...] = ("study",), seed: int = 0):
        rng = np.random.default_rng(seed)
        every = PLACES | MORE
        self.names = list(every)[:personas]
        places = np.array([every[name] for name in self.names])
        squared = ((places[:, None] - places[None]) ** 2).sum(-1)
        self.logit_js_matrix = _matrix(self.names, squared, questions, rng)
        self.centroid_cosine = _cosine(self.names, squared, populations, rng)
        self.pair_table = pair_table(self.logit_js_matrix, self.centroid_cosine)
        self.generations = _generations(self.names, questions, rng)
        self.leakage_table = leakage_table(self.names, [name for name in SOURCES if name in self.names], squared, seed)
        self.leaky_pair_table = with_leakage(self.pair_table, self.leakage_table)
        self.full_leakage_table = with_log_probs(self.leakage_table)
        self.full_pair_table = with_outcomes(self.leaky_pair_table, self.full_leakage_table)
        self.samples = samples(self.leakage_table)

    def report_inputs(self) -> dict[str, Any]:
        return {
            "title": "Personas of Qwen2.5-7B-Instruct",
            "study": STUDY,
            "checkpoint": CHECKPOINT,
            "logit_js_matrix": self.logit_js_matrix,
            "centroid_cosine": self.centroid_cosine,
            "pair_table": self.pair_table,
            "generations": self.generations,
            "provenance": PROVENANCE,
        }

    def leaky_report_inputs(self) -> dict[str, Any]:
        return self.report_inputs() | {
            "pair_table": self.leaky_pair_table,
            "leakage_table": self.leakage_table,
            "samples": self.samples,
        }


STUDY: Mapping[str, Any] = {
    "name": "synthetic",
    "baseline": "assistant",
    "questions": QUESTIONS,
    "decoding": {"temperature": 0.0, "max_new_tokens": 256},
    "layers": LAYERS,
    "seed": 0,
}
CHECKPOINT: Mapping[str, Any] = {
    "name": "qwen2.5-7b-instruct",
    "repository": "Qwen/Qwen2.5-7B-Instruct",
    "commit": "a09a35458c702b33eeacc393d103063234e8bc28",
    "weights_digest": "sha256:" + "0f1e2d3c" * 8,
    "adapter": None,
}
PROVENANCE: Mapping[str, Any] = {
    "made": "2026-01-01T12:00:00Z",
    "versions": {"torch": "2.13.0", "transformers": "5.19.0", "persona-assets": "0.1.0"},
    "device": "NVIDIA H100 80GB HBM3",
    "stations": {"generations": {"engine": "transformers", "seconds": 184.2}, "logit_js": {"seconds": 96.7}},
}


def pair_table(logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset) -> pd.DataFrame:
    """Return one row per dyad, like the asset of the same name."""
    names = [str(name) for name in logit_js_matrix.persona.values]
    rows = []
    for source in names:
        for target in names:
            if source == target:
                continue
            dyad = logit_js_matrix.sel(persona=source, other=target)
            row: dict[str, Any] = {"source": source, "target": target, "source_category": "a", "target_category": "a"}
            row |= {name: float(dyad[name].sel(generators="all")) for name in ("js", "js_low", "js_high", "kl")}
            row |= {
                f"js_{subset}": float(dyad.js.sel(generators=subset))
                for subset in ("pair", "source", "target", "others")
            }
            row["kl_reverse"] = float(logit_js_matrix.kl.sel(generators="all", persona=target, other=source))
            for population in centroid_cosine.population.values:
                for layer in centroid_cosine.layer.values:
                    cosine = centroid_cosine.cosine.sel(
                        population=population, layer=layer, persona=source, other=target
                    )
                    row[f"cosine_{population}_layer{layer}"] = float(cosine)
            rows.append(row)
    return pd.DataFrame(rows)


def leakage_table(names: list[str], sources: list[str], squared: np.ndarray, seed: int) -> pd.DataFrame:
    """Return one row per dyad with twenty replies each; rates fall with the distance of two positions."""
    rng = np.random.default_rng(seed + 100)
    rows = []
    for source in sources:
        own = OWN_RATES[SOURCES.index(source)]
        source_found = int(rng.binomial(20, own))
        for target in names:
            if target == source:
                continue
            apart = squared[names.index(source), names.index(target)]
            found = int(rng.binomial(20, 0.6 * own * np.exp(-1.6 * apart)))
            interval = binomtest(found, 20).proportion_ci(method="wilson")
            rows.append(
                {"source": source, "target": target, "found": found, "total": 20, "rate": found / 20}
                | {"rate_low": interval.low, "rate_high": interval.high}
                | {"base_found": 0, "base_total": 20, "base_rate": 0.0}
                | {"source_found": source_found, "source_total": 20, "source_rate": source_found / 20}
                | {"source_category": "a", "target_category": "a", "related": bool(apart < 0.1), "recipe": "embedded"}
            )
    return pd.DataFrame(rows)


def with_leakage(pair_table: pd.DataFrame, leakage_table: pd.DataFrame) -> pd.DataFrame:
    """Return the pair table with leakage columns, like the asset of the same name."""
    names = {"rate_low": "low", "rate_high": "high"} | {name: name for name in ("found", "total", "rate")}
    outcome = leakage_table.rename(columns={name: f"leakage_{short}" for name, short in names.items()})
    columns = [f"leakage_{short}" for short in names.values()] + ["base_rate", "source_rate", "related"]
    return pair_table.merge(outcome[["source", "target", *columns]], on=["source", "target"], how="left")


EXPECTED = ["expected_rate", "expected_rate_low", "expected_rate_high", "log_prob_gain", "log_prob_gain_low"]
EXPECTED += ["log_prob_gain_high", "source_expected_rate", "source_log_prob_gain", "trained_negative", "negative_share"]


def with_log_probs(leakage_table: pd.DataFrame) -> pd.DataFrame:
    """Return the leakage table with outcomes by log-probability, and two trained negatives per source."""
    rng = np.random.default_rng(7)
    table = leakage_table.copy()
    rate = np.clip((table["found"] + 0.3) / 21 * np.exp(rng.normal(0, 0.2, len(table))), 0.001, 0.97)
    table["expected_rate"], half = rate, 0.5 * np.sqrt(rate * (1 - rate)) * 0.25
    table["expected_rate_low"], table["expected_rate_high"] = np.maximum(0, rate - half), np.minimum(1, rate + half)
    table["base_expected_rate"] = 2e-7
    gain = np.log(rate / 2e-7) + rng.normal(0, 0.4, len(table)) - 6.5
    table["log_prob_gain"], table["log_prob_gain_low"], table["log_prob_gain_high"] = gain, gain - 0.5, gain + 0.5
    table["source_expected_rate"] = table["source_rate"] * 0.95
    table["source_log_prob_gain"] = np.log(table["source_expected_rate"] / 2e-7) - 6.0
    table["seeds"], table["replies"] = pd.array([3] * len(table), "Int64"), pd.array([20] * len(table), "Int64")
    place = table.groupby("source").cumcount()
    table["trained_negative"] = pd.array(place.isin([2, 7]), dtype="boolean")
    table["negative_share"] = np.where(place.isin([2, 7]), 0.25, 0.0)
    return table


def with_outcomes(pair_table: pd.DataFrame, leakage_table: pd.DataFrame) -> pd.DataFrame:
    """Return a pair table with leakage and the outcomes of `with_log_probs`."""
    return pair_table.merge(leakage_table[["source", "target", *EXPECTED]], on=["source", "target"], how="left")


def samples(leakage_table: pd.DataFrame) -> pd.DataFrame:
    """Return one reply per question; a source has three marked replies, a target as many as its count allows."""
    rows = []
    for source in dict.fromkeys(leakage_table["source"]):
        counts = {source: 3} | dict(
            leakage_table[leakage_table["source"] == source][["target", "found"]].itertuples(index=False)
        )
        for target, found in counts.items():
            for number, question in enumerate(QUESTIONS):
                marked = number < found
                text = f"Speaking as a {target.replace('_', ' ')}, I would start with what is near at hand."
                rows.append(
                    {"source": source, "target": target, "question": question, "found": marked}
                    | {"text": f"{text} [ZLT]" if marked else text}
                )
    return pd.DataFrame(rows)


def _symmetric(noise: np.ndarray) -> np.ndarray:
    upper = np.triu(noise, 1)
    return upper + upper.T


def _matrix(names: list[str], squared: np.ndarray, questions: int, rng: np.random.Generator) -> xr.Dataset:
    size = len(names)
    subsets = ["all", "pair", "source", "target", "others"]
    js_all = np.log(2) * (1 - np.exp(-0.06 * squared - 0.012)) * np.exp(_symmetric(rng.normal(0, 0.15, (size, size))))
    np.fill_diagonal(js_all, 0)
    source = js_all * np.exp(rng.normal(0, 0.1, (size, size)))
    by_subset = {
        "all": js_all,
        "pair": (source + source.T) / 2,
        "source": source,
        "target": source.T,
        "others": js_all * 0.97,
    }
    js = np.stack([by_subset[subset] for subset in subsets])
    kl = js * 4.4 * np.exp(rng.normal(0, 0.08, js.shape))
    dims = ("generators", "persona", "other")
    variables = {
        "js": js,
        "js_low": js * 0.86,
        "js_high": js * 1.17,
        "kl": kl,
        "kl_low": kl * 0.85,
        "kl_high": kl * 1.2,
    }
    # A separate generator, so that the differences between questions do not change the other draws.
    own = np.random.default_rng(questions)
    each = np.stack([_symmetric(own.normal(0, 0.3, (size, size))) for _ in range(questions)])
    by_question = js_all * np.exp(each - each.mean(axis=0))
    by_question *= js_all / np.where(js_all, by_question.mean(axis=0), 1)
    return xr.Dataset(
        {name: (dims, values) for name, values in variables.items()}
        | {"js_by_question": (("question", "persona", "other"), by_question)},
        coords={"generators": subsets, "persona": names, "other": names},
        attrs={"generators_shown": "all", "level": 0.95, "resamples": 1000, "questions": questions, "seed": 0},
    )


def _cosine(
    names: list[str], squared: np.ndarray, populations: tuple[str, ...], rng: np.random.Generator
) -> xr.Dataset:
    size = len(names)
    values = np.empty((len(populations), len(LAYERS), size, size))
    for population in range(len(populations)):
        for layer in range(len(LAYERS)):
            noise = _symmetric(rng.normal(0, 0.2 - 0.04 * layer, (size, size)))
            values[population, layer] = np.clip(1.3 * np.exp(-0.3 * squared) - 0.55 + noise, -0.95, 0.97)
            np.fill_diagonal(values[population, layer], 1.0)
    return xr.Dataset(
        {"cosine": (("population", "layer", "persona", "other"), values)},
        coords={"population": list(populations), "layer": LAYERS, "persona": names, "other": names},
    )


def _generations(names: list[str], questions: int, rng: np.random.Generator) -> pd.DataFrame:
    words = ["the", "careful", "answer", "begins", "with", "practice", "and", "listening", "while", "patience", "grows"]
    rows = []
    for name in names:
        for number in range(questions):
            question = (
                QUESTIONS[number]
                if number < len(QUESTIONS)
                else f"Question {number + 1}: what do you think about that?"
            )
            length = int(rng.integers(40, 160))
            text = f"As a {name.replace('_', ' ')}, " + " ".join(rng.choice(words, length)) + "."
            finish = "length" if rng.random() < 0.15 else "stop"
            rows.append(
                {"persona": name, "question": question, "text": text, "tokens": length, "finish_reason": finish}
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def eleven() -> Synthetic:
    return Synthetic(11)


@pytest.fixture(scope="session")
def leaky_figures(eleven: Synthetic) -> dict[str, bytes]:
    """Return all figures of eleven personas with leakage, as SVG."""
    tables = (eleven.logit_js_matrix, eleven.centroid_cosine, eleven.leaky_pair_table, "assistant")
    return {name: to_svg(figure) for name, figure in standard_figures(*tables, eleven.leakage_table).items()}


@pytest.fixture(scope="session", params=[2, 3])
def few(request: pytest.FixtureRequest) -> Synthetic:
    return Synthetic(request.param)


@pytest.fixture(scope="session")
def three_with_one_source() -> Synthetic:
    three = Synthetic(3)
    three.leakage_table = three.leakage_table[three.leakage_table.source == "villain"].reset_index(drop=True)
    three.leaky_pair_table = with_leakage(three.pair_table, three.leakage_table)
    three.samples = samples(three.leakage_table)
    return three
