"""Plans compared with measurements: counts, seconds and memory peaks of the published run, and how they scale."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from persona_assets.checkpoints import Checkpoint, CheckpointError
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.shape import (
    QWEN_7B,
    SMOLLM_135M,
    Shape,
    checkpoint_shape,
    chosen_shape,
    named_shape,
    shape_of_config,
)
from persona_assets.cli import app
from persona_assets.inference.training import compiled_blocks
from persona_assets.planning import markers
from persona_assets.planning.memory import cpu_scoring_need, pair_bytes, scoring_need
from persona_assets.planning.plan import Plan, plan
from persona_assets.planning.rates import CARDS, CPU, H200, MEASURED
from persona_assets.planning.sizes import resized
from persona_assets.planning.stage import Stage, reply_length
from persona_assets.planning.text import duration
from persona_assets.study import Study, StudyError
from persona_assets.study.files import load_study

GIB = 2**30
QWEN_CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


@pytest.fixture(scope="module")
def published() -> Plan:
    return plan(load_study("published"), QWEN_7B)


def stage(planned: Plan, name: str) -> Stage:
    return next(each for each in planned.stages if each.name == name)


def config(folder: Path, **changes: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps({**QWEN_CONFIG, **changes}))
    return file


def test_parameters_of_the_two_shipped_shapes() -> None:
    assert QWEN_7B.parameters == 7_615_616_512  # Qwen2.5-7B's model card: 7.61B
    assert SMOLLM_135M.parameters == 134_515_008


def test_parameters_equal_those_of_the_transformers_model(tiny_directory: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_directory)
    shape = checkpoint_shape(Checkpoint(name="tiny", path=tiny_directory))
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_qwens_config_gives_the_shipped_shape(tmp_path: Path) -> None:
    assert shape_of_config(config(tmp_path), "qwen2.5-7b") == QWEN_7B
    assert named_shape(str(tmp_path)).parameters == QWEN_7B.parameters


def test_keys_and_values_of_a_token() -> None:
    assert QWEN_7B.state_bytes() == 2 * 28 * 4 * 128 * 2


def test_counts_of_the_published_study_match_its_run(published: Plan) -> None:
    scoring, written = stage(published, "logit_js"), stage(published, "generations")
    assert (scoring.passes, round(scoring.forced)) == (2_420, 1_007_721)
    assert (written.passes, round(written.generated)) == (220, 91_611)
    assert stage(published, "training replies").passes == 5 * 600  # 200 by the source, 200 by each of two others
    assert stage(published, "marker_adapter").passes == 5 * 760 * 16 - 5 * 20 * 8  # the last batch of an epoch has 8
    assert stage(published, "base replies").passes == 2_200
    assert stage(published, "marker_rates").passes == 5 * 2_200
    assert stage(published, "marker_log_probs").passes == 6 * 2_200  # five adapters and none


def test_blocks_are_compiled_from_the_size_on_that_training_compiles_them() -> None:
    assert markers.COMPILED_FROM == compiled_blocks.COMPILED_FROM


def test_flops_match_the_benchmark(published: Plan) -> None:
    assert stage(published, "logit_js").flops == pytest.approx(586e12 * 24.7, rel=0.01)  # benchmarks/results/scoring.md


def test_seconds_on_an_h200_match_measurements(published: Plan) -> None:
    def seconds(name: str) -> float:
        return stage(published, name).seconds[H200.name]

    assert seconds("logit_js") == pytest.approx(24.7, rel=0.03)
    assert seconds("generations") == pytest.approx(4.25, rel=0.1)  # benchmarks/results/whole_run_h200.md
    assert seconds("centroids") == pytest.approx(0.36, rel=0.1)
    steps = 5 * 760 * 6_970  # tokens; benchmarks/results/marker_training.md
    assert seconds("marker_adapter") == pytest.approx(steps / 16_400, rel=0.1)
    assert seconds("marker_rates") == pytest.approx(5 * 2_200 * 416 / 23_490, rel=0.02)
    assert seconds("marker_log_probs") == pytest.approx(6 * 22.3, rel=0.2)  # benchmarks/results/log_probs_h200.md
    measuring = ("starting", "generations", "logit_js", "centroids")
    whole = sum(map(seconds, measuring))
    assert whole == pytest.approx(80.2, rel=0.1)  # the whole run, compiled code cached
    for cold in (96.7, 105.3, 110.3, 113.1, 115.8):  # the same run on five machines with empty caches
        assert whole + MEASURED["first"].value == pytest.approx(cold, rel=0.2)


def test_seconds_on_two_h200s_match_measurements() -> None:
    two = plan(load_study("published"), QWEN_7B, cards=2)
    measuring = ("starting", "generations", "logit_js", "centroids")
    whole = sum(stage(two, name).seconds[H200.name] for name in measuring)
    assert whole == pytest.approx(73.2, rel=0.2)  # benchmarks/results/two_cards.md
    assert stage(two, "logit_js").seconds[H200.name] == pytest.approx(14.8, rel=0.1)


def test_seconds_on_two_cores_match_measurements() -> None:
    planned = plan(load_study("embedded"), SMOLLM_135M)
    measuring = ("starting", "generations", "logit_js", "centroids")
    assert sum(stage(planned, name).seconds[CPU.name] for name in measuring) == pytest.approx(
        14 + 0.042 * 1_056, rel=0.15
    )
    assert stage(planned, "logit_js").seconds[CPU.name] == pytest.approx(34.9, rel=0.05)  # scoring_cpu.md
    assert stage(planned, "marker_adapter").seconds[CPU.name] == pytest.approx(5 * 30, rel=0.2)


def test_memory_is_within_a_tenth_of_the_measured_peaks(published: Plan) -> None:
    generation, scoring, training = published.memory
    assert (scoring.weights + scoring.working) / GIB == pytest.approx(17.3, rel=0.1)
    assert (training.weights + training.least) / GIB == pytest.approx(19.5, rel=0.1)  # 21.2 with float32 copies
    assert (training.weights + training.working) / GIB == pytest.approx(83, rel=0.1)
    assert generation.weights == scoring.weights == 2 * QWEN_7B.parameters


def test_memory_of_scoring_grows_linearly_with_personas() -> None:
    def working(scorers: int, longest: int = 512, questions: int = 1) -> int:
        return scoring_need(QWEN_7B, scorers, questions, 37, longest, 2).working

    whole = 111 * 512 * QWEN_7B.vocabulary * 2  # all logits of a response
    pairs = 512 * 2 * 8 * 111**2  # all its pairs
    assert working(111) < whole / 5
    assert working(111, 1024) - working(111, 512) == 2 * 512 * 111 * QWEN_7B.hidden * 2 < pairs * 8 + whole / 20
    assert working(1000) < 9.5 * working(111)  # linear in personas, not in pairs
    assert pair_bytes(111, QWEN_7B.vocabulary) == 16 * 111**2 + 8 * 6105 * 38


@pytest.mark.parametrize(("scorers", "peak"), [(11, 100), (33, 242), (111, 809)])
def test_memory_on_two_cores_matches_measurements(scorers: int, peak: float) -> None:
    need = cpu_scoring_need(SMOLLM_135M, scorers, 2, 33, 8)  # benchmarks/results/many_personas.md, MiB
    assert need.working / 2**20 == pytest.approx(peak, rel=0.2)


def test_labels_of_what_fits_on_which_gpu(published: Plan) -> None:
    training = published.memory[2]
    words = {card.name: training.on(published.usable(card)) for card in CARDS}
    assert list(words.values()) == ["recomputed", "recomputed", "recomputed", "kept"]
    larger = plan(load_study("published"), Shape("70b", 8192, 80, 64, 8, 128, 28672, 128_256, False, False, 2))
    assert [need.on(larger.usable(H200)) for need in larger.memory] == ["no", "no", "no"]
    middle = plan(load_study("published"), Shape("33b", 7168, 62, 56, 8, 128, 20480, 64_000, False, False, 2))
    assert middle.memory[0].on(middle.memory[0].weights + 2 * GIB) == "tight"


def test_twice_the_personas_are_four_times_the_passes() -> None:
    study = load_study("published")
    doubled = {name + suffix: persona for name, persona in study.personas.items() for suffix in ("", "-2")}
    one, two = (plan(study.model_copy(update={"personas": each}), QWEN_7B) for each in (study.personas, doubled))
    once, twice = (stage(each, "logit_js") for each in (one, two))
    assert twice.passes == 4 * once.passes
    assert twice.forced == pytest.approx(4 * once.forced)
    assert twice.flops == pytest.approx(4 * once.flops, rel=0.02)
    assert twice.seconds[H200.name] > 4 * once.seconds[H200.name]  # pairs per response grow quadratically
    assert stage(two, "generations").passes == 2 * stage(one, "generations").passes


def test_landmarks_reduce_the_counts() -> None:
    study = load_study("published")
    few = study.model_copy(update={"design": "landmarks", "landmarks": ("assistant", "villain", "librarian")})
    whole, part = (plan(each, QWEN_7B) for each in (study, few))
    assert stage(part, "logit_js").passes == 3 * 20 * 11
    assert stage(part, "logit_js").forced == pytest.approx(stage(whole, "logit_js").forced * 3 / 11)
    assert stage(part, "generations").passes == 3 * 20
    assert stage(part, "centroids").passes == stage(whole, "centroids").passes == 220
    assert part.matrices == whole.matrices * 3 / 11
    assert part.storage["logit_js"] == pytest.approx(whole.storage["logit_js"] * 3 / 11)


def test_the_sources_design_compares_only_pairs_with_a_source() -> None:
    study = load_study("published")
    by_source = study.model_copy(update={"design": "sources"})
    whole, part = (stage(plan(each, QWEN_7B), "logit_js") for each in (study, by_source))
    assert part.passes == 5 * 20 * 11
    pair = MEASURED["pair"].value * QWEN_7B.vocabulary
    positions = {11: whole.forced / 11, 5: part.forced / 11}
    of_pairs = {name: each.seconds[H200.name] - each.flops / H200.score for name, each in ((11, whole), (5, part))}
    assert of_pairs[11] == pytest.approx(positions[11] * 55 * pair, rel=1e-6)
    assert of_pairs[5] == pytest.approx(positions[5] * (55 - 15) * pair, rel=1e-6)  # six personas are not sources


def test_half_the_response_is_half_the_tokens() -> None:
    study = load_study("published")
    long, short = (stage(plan(study, QWEN_7B, tokens), "logit_js") for tokens in (400, 200))
    assert long.forced == 2 * short.forced == 2 * 2_420 * 200


def test_deterministic_scoring_takes_as_long_as_measured() -> None:
    study = load_study("published").model_copy(update={"deterministic": True})
    assert stage(plan(study, QWEN_7B), "logit_js").seconds[H200.name] == pytest.approx(36.2, rel=0.03)


def test_short_limits_are_assumed_to_be_reached() -> None:
    assert [reply_length(limit) for limit in (24, 128, 140)] == [24, 128, 128]
    assert reply_length(512) == pytest.approx(416.4, abs=0.1)
    assert reply_length(100, 300) == 100


def test_a_study_without_sources_trains_nothing() -> None:
    planned = plan(load_study("published").model_copy(update={"sources": (), "marker": None}), QWEN_7B)
    assert [each.name for each in planned.stages] == ["starting", "generations", "logit_js", "centroids"]
    assert len(planned.memory) == 2


def test_errors_of_rejected_studies_say_what_was_expected(published: Plan) -> None:
    study = published.study
    imported = Study.model_validate({**study.model_dump(mode="json"), "imported": True, "sources": [], "marker": None})
    with pytest.raises(StudyError, match="imported: found true"):
        plan(imported, QWEN_7B)
    with pytest.raises(StudyError, match="response tokens: found 600; expected 1 to"):
        plan(study, QWEN_7B, 600)
    with pytest.raises(StudyError, match="layers: found 28, which the model does not have"):
        plan(study.model_copy(update={"layers": (28,)}), QWEN_7B)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "hidden_size.* expected int"),
        ({"vocab_size": "many"}, "vocab_size: found 'many'; expected a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers: found True; expected a whole number"),
    ],
)
def test_an_error_in_a_config_names_file_and_field(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as error:
        named_shape(str(config(tmp_path, **changes)))
    assert str(tmp_path / "config.json") in str(error.value)


MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
    "num_experts_per_tok": 2,
}  # fmt: skip
QWEN3_30B_A3B = {
    "model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936,
    "num_experts": 128, "num_experts_per_tok": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "total", "active"),
    [(MIXTRAL, 46.7, 12.9), (QWEN3_30B_A3B, 30.5, 3.35)],  # as their model cards say
)
def test_a_mixture_of_experts_is_planned_by_its_active_parameters(
    tmp_path: Path, fields: dict[str, object], total: float, active: float
) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(fields))
    shape = named_shape(str(file))
    assert shape.parameters / 1e9 == pytest.approx(total, rel=0.003)
    assert shape.active_parameters / 1e9 == pytest.approx(active, rel=0.003)
    result = CliRunner().invoke(app, ["plan", "--study", "published", "--shape", str(file)])
    assert result.exit_code == 0, result.output
    assert "G active" in result.output
    assert "unsure     experts: " in result.output


def test_windows_and_hybrids_are_planned_and_named_as_estimates(tmp_path: Path) -> None:
    windowed = named_shape(str(config(tmp_path, model_type="mistral", sliding_window=4096)))
    assert any(line.startswith("windows: ") for line in windowed.unsure)
    hybrid = named_shape(str(config(tmp_path, model_type="qwen3_5_text")))
    assert hybrid.scored_whole
    assert any("counted as full attention" in line for line in hybrid.unsure)
    study, dense = load_study("published"), named_shape(str(config(tmp_path)))
    assert stage(plan(study, hybrid), "logit_js").flops > 1.05 * stage(plan(study, dense), "logit_js").flops


def test_the_choice_of_a_shape(tmp_path: Path, tiny_directory: Path) -> None:
    registry = Registry(tmp_path / "checkpoints.yaml")
    assert chosen_shape("published", registry, None, None) == QWEN_7B
    assert chosen_shape("mine", registry, None, None) == SMOLLM_135M
    assert chosen_shape("mine", registry, None, "qwen2.5-7b") == QWEN_7B
    registry.add("tiny", {"path": str(tiny_directory)})
    assert chosen_shape("published", registry, "tiny", None).layers == 3
    with pytest.raises(CheckpointError, match="no checkpoint 'other'"):
        chosen_shape("published", registry, "other", None)
    with pytest.raises(CheckpointError, match="expected only one of them"):
        chosen_shape("published", registry, "tiny", "qwen2.5-7b")
    with pytest.raises(CheckpointError, match=r"expected a config\.json or one of"):
        chosen_shape("published", registry, None, "qwen-900b")


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.36, "0.4 s"), (24.7, "25 s"), (696, "11.6 min"), (3 * 3600, "3.0 h"), (2e5, "2.3 d")]
)
def test_durations_are_readable(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize("study", ["published", "embedded"])
def test_the_command_prints_tables_that_fit_a_terminal(study: str) -> None:
    result = CliRunner().invoke(app, ["plan", "--study", study])
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) < 100
    for expected in ("teacher-forced", "H200 141 GB", "marker_rates", "scoring.md", "scaled, not measured"):
        assert expected in result.output


def test_the_command_accepts_a_length_and_a_shape(tmp_path: Path) -> None:
    options = ["--shape", str(config(tmp_path, num_hidden_layers=26)), "--response-tokens", "100"]
    result = CliRunner().invoke(app, ["plan", "--study", "published", *options])
    assert result.exit_code == 0, result.output
    assert "26 blocks" in result.output
    assert "100 tokens on average, at most 512: as given" in result.output
    assert "242,000" in result.output  # 2,420 × 100


def test_the_command_loads_no_model_and_prints_errors_without_traceback(tmp_path: Path) -> None:
    line = [sys.executable, "-X", "importtime", "-m", "persona_assets.cli", "plan", "--study", "published"]
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path / "home")}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True)
    imported = {row.rpartition("|")[2].strip() for row in done.stderr.splitlines()}
    assert not imported & {"torch", "dagster", "transformers"}
    assert list((tmp_path / "home").iterdir()) == []
    line = [sys.executable, "-m", "persona_assets.cli", "plan", "--shape", str(config(tmp_path, hidden_size=0))]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"CheckpointError: {tmp_path / 'config.json'}: hidden_size: found 0; expected")


def test_partitions_are_distributed_over_gpus_but_not_over_cpus(published: Plan) -> None:
    two = plan(load_study("published"), QWEN_7B, cards=2)
    shares = {"starting": 1, "generations": 1, "logit_js": 6 / 11, "centroids": 6 / 11, "marker_adapter": 3 / 5}
    for name, share in shares.items():
        before, after = stage(published, name).seconds, stage(two, name).seconds
        assert after[H200.name] == pytest.approx(share * before[H200.name])
        assert after[CPU.name] == pytest.approx(before[CPU.name])
    assert [each.flops for each in two.stages] == [each.flops for each in published.stages]
    with pytest.raises(StudyError, match=r"published: cards: found 0; expected at least 1"):
        plan(load_study("published"), QWEN_7B, cards=0)


def test_the_plan_of_a_model_split_over_two_gpus_matches_measurements() -> None:
    """Qwen2.5-32B's shape on two H200s, three personas and four questions: benchmarks/results/two_cards.md."""
    shape = replace(QWEN_7B, hidden=5120, layers=64, heads=40, kv_heads=8, intermediate=27648)
    few = resized(load_study("published").model_copy(update={"sources": (), "marker": None}), personas=3, questions=4)
    spread = few.model_copy(update={"inference": few.inference.model_copy(update={"tensor_parallel": 2})})
    one, two, four = plan(few, shape), plan(spread, shape), plan(spread, shape, cards=4)
    assert (one.cards, two.cards) == (1, 2)
    for alone, shared in zip(one.memory, two.memory, strict=True):
        assert shared.weights == pytest.approx(alone.weights / 2)
        assert alone.on(40e9) == "no"
        assert shared.on(40e9) == "fits"

    def seconds(planned: Plan, *names: str) -> float:
        return sum(stage(planned, name).seconds[H200.name] for name in names)

    assert seconds(two, "starting", "generations", "logit_js", "centroids") == pytest.approx(71.5, rel=0.2)
    assert seconds(two, "logit_js") == pytest.approx(3 * 1.25, rel=0.2)  # the first persona warmed up the kernels
    assert seconds(two, "generations") < 0.6 * seconds(one, "generations")
    assert seconds(four, "logit_js") == pytest.approx(seconds(two, "logit_js") * 2 / 3)  # two copies, three personas
    assert stage(two, "logit_js").seconds[CPU.name] == stage(one, "logit_js").seconds[CPU.name]
    with pytest.raises(StudyError, match=r"cards: found 1; expected at least 2, which is inference.tensor_parallel"):
        plan(spread, shape, cards=1)


def test_a_study_is_resized_for_planning() -> None:
    study = load_study("published")
    grown = resized(study, personas=111, questions=40)
    assert (len(grown.personas), len(grown.questions), grown.sources) == (111, 40, study.sources)
    passes = stage(plan(grown, QWEN_7B), "logit_js").passes
    assert passes == 111 * 111 * 40
    small = resized(study, personas=6)
    assert len(small.personas) == 6
    assert {study.baseline, *study.sources} <= set(small.personas)
    with pytest.raises(StudyError, match=r"personas: found 4; expected at least 5: baseline and sources"):
        resized(study, personas=4)
    with pytest.raises(StudyError, match=r"questions: found 0; expected at least 1"):
        resized(study, questions=0)
