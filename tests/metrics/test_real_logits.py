"""Divergence of a real model's next-token distributions, compared with SciPy in float64."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, rel_entr
from torch import Tensor

from persona_assets.inference import LoadedModel, PrefixScorer, Scored
from persona_assets.metrics import divergence_of_response, jensen_shannon, kullback_leibler, pairwise_divergence
from persona_assets.study.files import load_study

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def logits(embedded: LoadedModel) -> Tensor:
    """Return three personas' logits along eight tokens of one response: (3, 8, 49152), float32."""
    study = load_study()
    prompts = [embedded.chat.prompt_ids(prompt, study.questions[0]) for prompt in study.prompts.values()]
    response = embedded.chat.tokenizer("Managing stress is easy once you rule the world.")["input_ids"][:8]
    (pieces,) = (torch.cat(list(each), dim=1) for each in PrefixScorer(embedded).logits([Scored(prompts, response)]))
    return pieces


def probabilities(logits: Tensor) -> Array:
    found: Array = np.exp(log_softmax(logits.double().numpy(), axis=-1))
    return found


def true_js(p: Array, q: Array) -> Array:
    """Square SciPy's Jensen–Shannon distance, which gives the divergence."""
    found: Array = jensenshannon(p, q, axis=-1) ** 2
    return found


def test_every_pair_at_every_token_equals_scipy(logits: Tensor) -> None:
    js, kl = (values.numpy() for values in pairwise_divergence(logits))
    p = probabilities(logits)
    for i, j in permutations(range(3), 2):
        expected_js, expected_kl = true_js(p[i], p[j]), rel_entr(p[i], p[j]).sum(-1)
        np.testing.assert_allclose(js[:, i, j], expected_js, rtol=0, atol=1e-6)
        np.testing.assert_allclose(kl[:, i, j], expected_kl, rtol=0, atol=1e-6)
        np.testing.assert_allclose(jensen_shannon(logits[i], logits[j]), expected_js, rtol=0, atol=1e-6)
        np.testing.assert_allclose(kullback_leibler(logits[i], logits[j]), expected_kl, rtol=1e-6, atol=1e-6)
    assert 1e-3 < js[:, 0, 1].max() < math.log(2)  # the personas differ here


def nearly_equal(logits: Tensor, js: float) -> Tensor:
    """Perturb the logits so that the divergence from them is about `js`."""
    direction, scale = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)), 1e-2
    for _ in range(3):  # JS of a small step grows with its square
        moved = logits + scale * direction
        scale *= math.sqrt(js / true_js(probabilities(logits), probabilities(moved)).mean())
    return logits + scale * direction


@pytest.mark.parametrize("js", [1e-6, 1e-5, 1e-4])
def test_nearly_equal_real_distributions_keep_their_digits(logits: Tensor, js: float) -> None:
    one = logits[0]
    moved = nearly_equal(one, js)
    expected = true_js(probabilities(one), probabilities(moved))
    assert expected.mean() == pytest.approx(js, rel=0.1)
    np.testing.assert_allclose(jensen_shannon(one, moved), expected, rtol=0.01)
    pairs, _ = pairwise_divergence(torch.stack([one, moved]))
    np.testing.assert_allclose(pairs[:, 0, 1], expected, rtol=0.01)


def test_a_persona_does_not_diverge_from_itself(logits: Tensor) -> None:
    js, kl = pairwise_divergence(logits[[1, 1]])
    assert js.count_nonzero() == kl.count_nonzero() == 0
    assert jensen_shannon(logits, logits).count_nonzero() == 0


def test_a_response_is_the_mean_over_its_tokens_for_any_chunks(logits: Tensor) -> None:
    js, kl = (values.numpy() for values in pairwise_divergence(logits))
    found = divergence_of_response(logits.split(3, dim=1), generator=1)
    np.testing.assert_allclose(found.js, js.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(found.kl, kl.mean(axis=0), rtol=1e-14)
    np.testing.assert_array_equal(found.token_js, js[:, 1, :])
    np.testing.assert_array_equal(found.token_kl, kl[:, 1, :])
    np.testing.assert_array_equal(found.token_kl_reverse, kl[:, :, 1])
