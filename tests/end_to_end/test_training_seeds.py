"""Several training seeds of a source: each is stored as soon as it is trained, and stored ones are reused."""

import numpy as np
import pytest

from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.provenance import OF_SOURCES, of_sources
from persona_assets.runs.run import Run
from persona_assets.stages import training
from persona_assets.stages.leakage import measured_leakage
from persona_assets.study import Study
from tests.end_to_end.conftest import with_study

KEY = "tiny|villain"


def with_marker(study: Study, **changes: object) -> Study:
    """The study with other fields in its recipe."""
    given = study.model_dump(mode="json")
    for name, fields in changes.items():
        given["marker"][name] = {**given["marker"].get(name, {}), **fields} if isinstance(fields, dict) else fields
    given["marker"]["training"].pop("seed" if "seeds" in given["marker"]["training"] else "", None)
    return Study.model_validate(given)


def stored(run: Run) -> dict[str, set[str]]:
    return {asset: {each.fingerprint for each in run.home.store.all(asset)} for asset in OF_SOURCES}


def test_a_second_seed_is_trained_beside_the_first_which_is_reused(tiny_run: Run) -> None:
    before = stored(tiny_run)
    run = with_study(tiny_run, with_marker(tiny_run.study, training={"seeds": [42, 137]}))
    run.materialise()

    after = stored(run)
    for asset in OF_SOURCES:
        assert before[asset] < after[asset]
        assert len(after[asset] - before[asset]) == 2, f"{asset}: the second seed, and both together"
        (artefact,) = latest_artefacts(run.instance, run.home.store, asset, [KEY]).values()
        assert list(artefact.made_from["parts"]) == ["villain@42", "villain@137"]
        assert artefact.made_from["parts"]["villain@42"] in before[asset]

    (log_probs,) = latest_artefacts(run.instance, run.home.store, "marker_log_probs", [KEY]).values()
    table = log_probs.read()
    assert set(table.seed) == {42, 137}
    by_seed = [rows.marker_log_prob.to_numpy() for _, rows in table.groupby("seed")]
    assert len(by_seed[0]) == len(by_seed[1])
    assert not np.allclose(*by_seed)
    same = [rows.base_marker_log_prob.to_numpy() for _, rows in table.groupby("seed")]
    np.testing.assert_array_equal(*same)

    (leakage,) = latest_artefacts(run.instance, run.home.store, "leakage_table", ["tiny"]).values()
    found = leakage.read()
    assert set(found.seeds) == {2}
    assert set(found.total) == {2 * 2 * 5}, "two questions × two seeds × five samples"
    assert set(found.base_total) == {2 * 5}


def test_a_run_that_fails_at_the_second_seed_keeps_the_first(tiny_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run = with_study(tiny_run, with_marker(tiny_run.study, training={"seeds": [7, 8]}))
    train, seeds = training.train_source, list[int]()

    def stopped(session, study, *rest):
        """Train, but not the second seed: that run is killed."""
        seeds.append(study.marker.training.seed)
        if seeds[-1] == 8 and len(seeds) == 2:
            raise KeyboardInterrupt
        return train(session, study, *rest)

    monkeypatch.setattr("persona_assets.stages.stages.train_source", stopped)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - Dagster turns the interrupt into an error of its own
        run.materialise()
    run.materialise()
    assert seeds == [7, 8, 8]


def test_seeds_share_their_negative_personas(tiny_run: Run) -> None:
    personas, seeds = list(tiny_run.study.personas), [1, 2, 3, 4, 5]

    def drawn(study: Study) -> tuple[str, ...]:
        assert study.marker is not None
        return tuple(study.marker.drawn_personas("villain", personas))

    study = with_marker(tiny_run.study, training={"seeds": seeds}, negatives={"personas": 1})
    assert len({drawn(study.for_seed("villain", seed)) for seed in seeds}) == 1
    alone = {drawn(with_marker(study, training={"seeds": [seed]})) for seed in seeds}
    assert len(alone) == 2, "each seed by itself draws one or the other"


def test_without_samples_leakage_is_measured_by_log_probability_alone(tiny_run: Run) -> None:
    study = with_marker(tiny_run.study, evaluation={"samples": 0}, log_probs={"samples": 5})
    assert of_sources(study) == ("marker_adapter", "marker_log_probs")
    (log_probs,) = latest_artefacts(tiny_run.instance, tiny_run.home.store, "marker_log_probs", [KEY]).values()
    table = measured_leakage(study, {"villain": log_probs.read()})
    assert table.total.isna().all()
    assert table.expected_rate.between(0, 1).all()
    assert table.trained_negative.all(), "the recipe trains on both other personas"
