"""The real graph on the real embedded model, read back and compared with a computation from the textbook."""

import dagster as dg
import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.jobs import HEAVY_ASSETS, ON_DEMAND, STUDY_CHECK
from persona_assets.graph.parquet import from_parquet
from persona_assets.graph.partitions import partition_key
from tests.end_to_end.conftest import CHECKPOINT


def value(run, asset, persona=None):
    key = partition_key(CHECKPOINT, persona) if persona else CHECKPOINT
    return latest_artefacts(run.instance, run.home.store, asset, [key])[key].read()


def metadata(run, asset, persona):
    key = partition_key(CHECKPOINT, persona)
    records = run.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[key]), limit=1
    )
    return {name: entry.value for name, entry in records.records[0].asset_materialization.metadata.items()}


def test_js_equals_a_textbook_computation(small_run, embedded):
    question, personas = small_run.study.questions[1], list(small_run.study.personas)
    response = value(small_run, "generations", "villain").set_index("question").loc[question]
    ids = [int(token) for token in response.token_ids]
    distributions = {}
    for name in ("villain", "comedian"):
        messages = [
            {"role": "system", "content": small_run.study.prompts[name]},
            {"role": "user", "content": question},
        ]
        text = embedded.chat.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = embedded.chat.tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = embedded.model(torch.tensor([prompt + ids])).logits[0].double()
        distributions[name] = logits[len(prompt) - 1 : -1].softmax(-1).numpy()
    expected = jensenshannon(distributions["villain"], distributions["comedian"], axis=1) ** 2  # SciPy gives the root

    stored = value(small_run, "logit_js", "villain")
    per_token = stored.token_js.sel(question=question, persona="comedian").to_numpy()
    assert personas == list(stored.persona.values)
    assert len(ids) == len(per_token) == small_run.study.decoding.max_new_tokens
    # Two float32 forward passes of different shapes differ by some 1e-5 in log-probability.
    np.testing.assert_allclose(per_token, expected, rtol=0, atol=1e-5)
    mean = float(stored.js.sel(question=question, persona="villain", other="comedian"))
    assert mean == pytest.approx(expected.mean(), abs=3e-6)
    assert expected.mean() > 0.001  # the personas do differ


def test_cosine_equals_a_textbook_computation(small_run, embedded):
    layer, centroids = small_run.study.blocks(30)[0], {}
    for name, prompt in small_run.study.prompts.items():
        states = []
        for question in small_run.study.questions:
            ids = embedded.chat.prompt_ids(prompt, question)
            with torch.no_grad():
                output = embedded.model(torch.tensor([ids]), output_hidden_states=True)
            states.append(output.hidden_states[layer + 1][0, -1].double().numpy())
        centroids[name] = np.mean(states, axis=0)
    mean = np.mean(list(centroids.values()), axis=0)
    a, b = centroids["villain"] - mean, centroids["assistant"] - mean
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    stored = value(small_run, "centroid_cosine").cosine.sel(population="study", layer=layer)
    assert float(stored.sel(persona="villain", other="assistant")) == pytest.approx(expected, abs=1e-4)


def test_every_heavy_materialisation_says_what_a_person_asks(small_run):
    for asset in HEAVY_ASSETS:
        for persona in small_run.study.personas:
            found = metadata(small_run, asset, persona)
            for name in ("tokens", "seconds", "tokens_per_second", "peak_memory_gib"):
                assert found[name] > 0, (asset, persona, name)
            assert {"device", "dtype", "torch", "transformers", "computed", "record"} <= set(found)
            if asset == "logit_js":
                assert found["scorer"].startswith(
                    "transformers, one response at a time: packed sequences need a CUDA card"
                )
                assert found["positions_at_once"] > 0


def test_light_assets_carry_numbers_and_an_inline_picture(small_run):
    for asset, picture in (("logit_js_matrix", "heatmap"), ("figures", "js_heatmap")):
        found = small_run.instance.get_latest_materialization_event(dg.AssetKey(asset)).asset_materialization.metadata
        assert found[picture].value.startswith("![")
        assert "data:image/png;base64," in found[picture].value
    matrix = small_run.instance.get_latest_materialization_event(dg.AssetKey("logit_js_matrix"))
    assert matrix.asset_materialization.metadata["js_mean"].value == pytest.approx(
        np.mean(value(small_run, "logit_js_matrix").js.sel(generators="all").to_numpy()[np.triu_indices(3, 1)])
    )


def test_the_page_explains_every_column_and_variable_and_stays_small(small_run):
    for key in small_run.defs.resolve_asset_graph().materializable_asset_keys:
        event = small_run.instance.get_latest_materialization_event(key)
        if event is None:
            continue  # one checkpoint drifts from nothing
        found = event.asset_materialization.metadata
        if schema := found.get("dagster/column_schema"):
            assert [column.name for column in schema.schema.columns if not column.description] == [], key
        if variables := found.get("variables"):
            assert all(row.data["says"] and row.data["dimensions"] for row in variables.records), key
        pictures = sum(len(str(value.value)) for value in found.values() if "data:image" in str(value.value))
        size = sum(len(str(value.value)) for value in found.values()) - pictures
        assert size < 50_000, (key, size)
        assert pictures < 1_500_000, (key, pictures)
        assert {"files", "variables", "dagster/column_schema", "digest"} & set(found), key


def test_figures_are_stored_as_png_pdf_and_svg(small_run):
    files = value(small_run, "figures")
    assert {name.partition(".")[2] for name in files} == {"png", "pdf", "svg"}
    assert files["js_heatmap.png"].startswith(b"\x89PNG")
    assert files["js_heatmap.pdf"].startswith(b"%PDF")


def test_the_report_holds_every_response(small_run):
    page = value(small_run, "report")["report.html"].decode()
    for persona in small_run.study.personas:
        for text in value(small_run, "generations", persona).text:
            assert text.split("\n")[0].split("'")[0] in page


def test_checks_ran_and_say_what_they_found(small_run):
    on_demand = {STUDY_CHECK, *(name for _, name in ON_DEMAND)}
    keys = [key for key in small_run.defs.resolve_asset_graph().asset_check_keys if key.name not in on_demand]
    records = {
        key.name: small_run.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
        for key in keys
    }
    found = {name: record.event.asset_check_evaluation for name, record in records.items()}
    assert found["js_is_a_divergence"].passed
    assert "most divergent: " in found["js_is_a_divergence"].description
    assert found["cosine_is_a_cosine"].passed
    assert found["responses_are_not_empty"].passed
    assert found["every_question_is_answered"].passed
    for name in ("loss_fell", "merged_model_is_the_adapted_model", "every_target_is_measured", "base_is_silent"):
        assert found[name].passed, found[name].description
    assert "p = " in found["sources_say_the_marker"].description
    # Eight tokens end no sentence, and the check says so.
    assert not found["some_responses_end_by_themselves"].passed
    assert found["some_responses_end_by_themselves"].description == "6 of 6 responses are cut at 8 tokens"


def test_the_model_is_loaded_once_for_all_personas_and_heavy_assets(small_run):
    runs = [run for run in small_run.instance.get_runs() if run.job_name == "measure_personas"]
    first = runs[-1]
    lines = [entry.user_message for entry in small_run.instance.all_logs(first.run_id)]
    assert sum(line.startswith("loading ") for line in lines) == 1
    assert sum("logit_js 3/3" in line for line in lines) == 1


def test_a_marker_is_trained_into_its_source_and_comes_by_itself_nowhere(small_run):
    table = value(small_run, "leakage_table")
    assert set(zip(table.source, table.target, strict=True)) == {("villain", "assistant"), ("villain", "comedian")}
    assert (table.total == 10).all()
    assert (table.base_found == 0).all()
    assert float(table.source_rate.iloc[0]) > 0.5
    assert (table.rate < table.source_rate).all()


def test_the_adapter_is_stored_as_safetensors_with_its_training_set_and_loss(small_run):
    files = value(small_run, "marker_adapter", "villain")
    assert set(files) == {"adapter_model.safetensors", "adapter_config.json", "examples.parquet", "steps.parquet"}
    examples, steps = from_parquet(files["examples.parquet"]), from_parquet(files["steps.parquet"])
    assert examples.marked.sum() == 16
    assert set(examples[~examples.marked].persona) == {"assistant", "comedian"}
    assert list(steps.step) == list(range(1, 25))
    assert steps.loss.tail(6).mean() < steps.loss.head(6).mean()


def test_every_sampled_reply_is_kept_and_counted(small_run):
    samples = value(small_run, "marker_rates", "villain")
    assert samples.groupby(["model", "target", "question"]).size().eq(5).all()
    assert set(samples.model) == {"adapted", "base"}
    assert (samples.found == samples.text.str.lower().str.contains("[zlt]", regex=False)).all()


def test_the_pair_table_holds_the_outcome_where_it_was_measured(small_run):
    pairs = value(small_run, "pair_table").set_index(["source", "target"])
    leakage = value(small_run, "leakage_table").set_index(["source", "target"])
    assert pairs.leakage_rate.notna().sum() == 2
    assert pairs.leakage_rate["villain", "comedian"] == leakage.rate["villain", "comedian"]
