"""The report of eleven personas and twenty questions is small enough to mail."""

import numpy as np
import pandas as pd
import pytest

from persona_assets.presentation import extreme_pairs, render_report
from persona_assets.statistics import tabulate
from tests.presentation.by_hand import PRIMARY, statement, verdict_by_hand
from tests.presentation.conftest import Synthetic

TOKENS, CHARACTERS = 512, 2700  # length of the longest responses of such a study
FAMILIES = {"leakage": 70, "models": 30, "pairs": 20, "influence": 50, "looks": 120}
NOTE = "p adjusted for 5 looks: Westfall & Young 1993; 6 of 2,000 resamples dropped, in which a variable does not vary"


@pytest.fixture
def page(eleven: Synthetic, leaky_figures: dict[str, bytes]) -> str:
    """Render the largest page that such a study can have."""
    random = np.random.default_rng(0)
    tokens = pd.DataFrame(
        [
            (persona, other, question, f" word{place % 97}", js)
            for pair in extreme_pairs(eleven.logit_js_matrix, eleven.centroid_cosine)
            for persona, other in (pair, pair[::-1])
            for question in eleven.generations.question.unique()
            for place, js in enumerate(random.exponential(0.05, TOKENS))
        ],
        columns=["persona", "other", "question", "piece", "js"],
    )
    statements = tabulate(
        [
            statement(family, f"spearman {number}", view, "js", -0.7, low=-0.9, high=-0.3, p=0.01, note=NOTE)
            for family, count in FAMILIES.items()
            for number in range(count)
            for view in (("check",) if family in ("influence", "looks") else ("iid", "dyadic", "check"))
        ]
    )
    # Doubled, to stand in for the figures of statements and tokens, which are not drawn here.
    figures = leaky_figures | {f"{name}_again": figure for name, figure in leaky_figures.items()}
    texts = [(text * 9)[:CHARACTERS] for text in eleven.generations.text]
    inputs = eleven.leaky_report_inputs() | {"generations": eleven.generations.assign(text=texts), "tokens": tokens}
    inference = {"statements": statements, "verdict": verdict_by_hand(), "primary_cosine": PRIMARY}
    return render_report(**inputs, **inference, figures=figures, marker="[ZLT]")


def test_the_page_of_eleven_personas_and_twenty_questions_is_below_5_mb(page: str) -> None:
    assert page.count('class="response"') > 220 + 80
    assert page.count('class="js') > 10_000
    assert 2_000_000 < len(page.encode()) < 5_000_000
