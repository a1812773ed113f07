"""What is computed again when something changes, counted by what the runs themselves recorded."""

from collections import Counter
from dataclasses import replace

import dagster as dg

from persona_assets.graph.jobs import HEAVY_ASSETS, LIGHT_ASSETS
from persona_assets.graph.partitions import split_key
from persona_assets.graph.provenance import OF_SOURCES
from persona_assets.study import Persona
from tests.end_to_end.conftest import with_study


def last_runs(run, count):
    return [record.dagster_run for record in run.instance.get_run_records(limit=count)]


def computed_by(run, runs):
    """Heavy asset → personas that these runs computed (and did not find in the store)."""
    computed = {asset: set() for asset in (*HEAVY_ASSETS, *OF_SOURCES)}
    for each in runs:
        for entry in run.instance.all_logs(each.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            event = entry.dagster_event.event_specific_data.materialization
            asset = event.asset_key.to_user_string()
            if asset in computed and event.metadata["computed"].value:
                computed[asset].add(split_key(event.partition)[1])
    return computed


def test_a_second_run_computes_nothing(tiny_run):
    before = len(tiny_run.instance.get_runs())
    assert tiny_run.materialise() == []
    assert len(tiny_run.instance.get_runs()) == before


def test_a_changed_prompt_recomputes_that_persona_every_logit_js_and_nothing_else(tiny_run):
    edited = tiny_run.study.personas | {"villain": Persona(prompt="You are a cruel tyrant.", category="fictional")}
    run = with_study(tiny_run, tiny_run.study.model_copy(update={"personas": edited}))
    run.prepare()
    staleness = run.staleness()
    assert Counter(staleness["generations"].values()) == {"current": 2, "out of date": 1}
    assert Counter(staleness["centroids"].values()) == {"current": 2, "out of date": 1}
    assert Counter(staleness["logit_js"].values()) == {"out of date": 3}

    ran = run.materialise()
    assert ran == ["measure_personas", "train_markers", "compare_personas"]
    everyone = set(run.study.personas)
    assert computed_by(run, last_runs(run, 3)) == {
        "generations": {"villain"},
        "centroids": {"villain"},
        "logit_js": everyone,
        "marker_adapter": {"villain"},  # the source, and everybody's replies are sampled from it
        "marker_log_probs": {"villain"},
        "marker_rates": {"villain"},
    }

    # Back to the prompt of before: everything is in the store still, and no model is loaded.
    tiny_run.prepare()
    assert tiny_run.materialise() == ["measure_personas", "train_markers", "compare_personas"]
    again = last_runs(tiny_run, 3)
    assert not any(computed_by(tiny_run, again).values())
    lines = [entry.user_message for each in again for entry in tiny_run.instance.all_logs(each.run_id)]
    assert not any(line.startswith("loading ") for line in lines)


def test_a_changed_figure_recomputes_no_model_work(tiny_run):
    def recoloured(spec):
        is_figures = spec.key == dg.AssetKey("figures")
        return spec.replace_attributes(code_version="another colour") if is_figures else spec

    run = replace(tiny_run, defs=tiny_run.defs.map_asset_specs(func=recoloured))
    staleness = run.staleness()
    stale = {asset for asset, partitions in staleness.items() if set(partitions.values()) != {"current"}}
    assert stale == {"figures", "report"}
    assert run.materialise() == ["compare_personas"]
    (job_run,) = last_runs(run, 1)
    materialised = {
        entry.dagster_event.asset_key.to_user_string()
        for entry in run.instance.all_logs(job_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    }
    assert materialised <= set(LIGHT_ASSETS)
