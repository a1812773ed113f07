"""The code location, loaded as workspace.yaml loads it, against the table of the design."""

import importlib
import subprocess
import sys

import dagster as dg
import pytest
import yaml

from persona_assets.assets import checkpoint_checks, checks, leakage_checks
from persona_assets.graph import schemas

PER_CHECKPOINT, PER_PERSONA, PROMPTS = "checkpoint", "checkpoint × persona", "persona"
PER_SOURCE = "checkpoint × source"
# asset: (partitioned by, made from)
TABLE = {
    "model_checkpoint": (PER_CHECKPOINT, set()),
    "persona_prompts": (PROMPTS, set()),
    "generations": (PER_PERSONA, {"model_checkpoint", "persona_prompts"}),
    "logit_js": (PER_PERSONA, {"model_checkpoint", "generations", "persona_prompts"}),
    "logit_js_matrix": (PER_CHECKPOINT, {"logit_js"}),
    "centroids": (PER_PERSONA, {"model_checkpoint", "persona_prompts"}),
    "centroid_cosine": (PER_CHECKPOINT, {"centroids"}),
    "marker_adapter": (PER_SOURCE, {"model_checkpoint", "persona_prompts"}),
    "marker_rates": (PER_SOURCE, {"model_checkpoint", "marker_adapter", "persona_prompts"}),
    "leakage_table": (PER_CHECKPOINT, {"marker_rates"}),
    "pair_table": (PER_CHECKPOINT, {"logit_js_matrix", "centroid_cosine", "leakage_table"}),
    "partial_correlations": (PER_CHECKPOINT, {"pair_table", "logit_js_matrix"}),
    "figures": (
        PER_CHECKPOINT,
        {"generations", "logit_js_matrix", "centroid_cosine", "pair_table", "leakage_table", "partial_correlations"},
    ),
    "report": (
        PER_CHECKPOINT,
        {
            "model_checkpoint",
            "generations",
            "logit_js_matrix",
            "centroid_cosine",
            "marker_rates",
            "leakage_table",
            "pair_table",
            "partial_correlations",
            "figures",
        },
    ),
    "checkpoint_drift": (None, {"logit_js_matrix", "centroid_cosine", "leakage_table"}),
}
HEAVY = {"generations", "logit_js", "centroids", "marker_adapter", "marker_rates"}


@pytest.fixture(scope="module")
def defs(repository):
    (source,) = yaml.safe_load((repository / "workspace.yaml").read_text())["load_from"]
    return importlib.import_module(source["python_module"]["module_name"]).defs


def partitioning(partitions_def):
    match partitions_def:
        case dg.MultiPartitionsDefinition():
            names = [dimension.name for dimension in partitions_def.partitions_defs]
            return " × ".join(names)
        case dg.DynamicPartitionsDefinition(name="checkpoint"):
            return PER_CHECKPOINT
        case dg.StaticPartitionsDefinition():
            return PROMPTS


def test_the_graph_is_the_designs_table(defs):
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    found = {
        name: (partitioning(spec.partitions_def), {dep.asset_key.to_user_string() for dep in spec.deps})
        for name, spec in specs.items()
    }
    assert found == TABLE


def test_heavy_assets_share_the_pool_gpu_and_run_all_personas_in_one_run(defs):
    for name in TABLE.keys() - {"persona_prompts"}:
        asset = defs.resolve_assets_def(dg.AssetKey(name))
        assert asset.op.pool == ("gpu" if name in HEAVY else None), name
        single = asset.backfill_policy is not None and asset.backfill_policy.policy_type.value == "SINGLE_RUN"
        assert single == (name in HEAVY), name


def test_every_asset_says_what_it_is_and_who_answers_for_it(defs):
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.kinds, spec.key
        (owner,) = spec.owners
        assert owner in ("team:study", "team:measurement", "team:analysis"), spec.key


def test_groups_sort_by_name_in_the_order_in_which_data_flow(defs):
    groups = {spec.key: spec.group_name for spec in defs.resolve_all_asset_specs()}
    assert sorted(set(groups.values())) == [
        "1_study", "2_checkpoint", "3_responses", "4_divergence", "5_geometry", "6_leakage", "7_statistics",
        "8_drift", "9_presentation",
    ]  # fmt: skip
    for spec in defs.resolve_all_asset_specs():
        for dep in spec.deps:
            assert groups[dep.asset_key] <= spec.group_name, (dep.asset_key, spec.key)


def test_tables_name_their_columns_and_arrays_their_dimensions_before_anything_is_made(defs):
    described = {**schemas.COLUMNS, **schemas.VARIABLES}
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        if name in schemas.COLUMNS:
            assert all(column.description for column in spec.metadata["dagster/column_schema"].columns), name
        elif name in schemas.VARIABLES:
            assert all(row.data["dimensions"] and row.data["says"] for row in spec.metadata["variables"].records), name
    files = {"marker_adapter", "figures", "report", "checkpoint_drift"}
    assert TABLE.keys() - described.keys() == {"model_checkpoint", "persona_prompts"} | files


def test_the_launchpad_has_defaults_and_says_what_each_setting_is(defs):
    def settings(field):
        inner = getattr(field.config_type, "fields", None)
        return [each for name in inner for each in settings(inner[name])] if inner else [field]

    resources = defs.resolve_job_def("measure_personas").run_config_schema.config_type.fields["resources"]
    gpu = resources.config_type.fields["gpu"].config_type.fields["config"]
    assert len(settings(gpu)) >= 5
    assert all(setting.description and setting.default_provided for setting in settings(gpu))
    for job in ("measure_checkpoint", "register_checkpoint"):
        definition = defs.resolve_job_def(job)
        (op,) = definition.run_config_schema.config_type.fields["ops"].config_type.fields.values()
        assert all(setting.description for setting in settings(op.config_type.fields["config"])), job
        assert definition.run_config, job


def test_a_scorers_prompt_reaches_every_generators_divergence(defs):
    graph = defs.resolve_asset_graph()
    mapping = graph.get_partition_mapping(dg.AssetKey("logit_js"), dg.AssetKey("persona_prompts"))
    assert isinstance(mapping, dg.AllPartitionMapping)


def test_drift_is_made_from_every_checkpoint(defs):
    graph = defs.resolve_asset_graph()
    for table in ("logit_js_matrix", "centroid_cosine", "leakage_table"):
        mapping = graph.get_partition_mapping(dg.AssetKey("checkpoint_drift"), dg.AssetKey(table))
        assert isinstance(mapping, dg.AllPartitionMapping)


def test_nothing_starts_a_run_until_a_person_turns_it_on(defs):
    repository = defs.get_repository_def()
    sensors = {sensor.name: sensor for sensor in repository.sensor_defs}
    always_on = {"study_and_registry", "dead_runs"}
    assert set(sensors) == always_on | {"new_checkpoints", "report_ready", "measurement_failed"}
    running = {name for name, sensor in sensors.items() if sensor.default_status == dg.DefaultSensorStatus.RUNNING}
    assert running == always_on
    assert not any(sensors[name].targets for name in always_on)
    (schedule,) = repository.schedule_defs
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert [target.job_name for target in (*sensors["new_checkpoints"].targets, schedule.target)] == [
        "measure_checkpoint",
        "measure_checkpoint",
    ]


def test_reading_all_weights_again_is_no_part_of_a_usual_run(defs):
    expensive = dg.AssetCheckKey(dg.AssetKey("model_checkpoint"), "weights_are_unchanged")
    assert expensive in defs.resolve_asset_graph().asset_check_keys
    for name in ("identify_checkpoint", "measure_personas", "compare_personas"):
        assert expensive not in defs.resolve_job_def(name).asset_layer.asset_graph.asset_check_keys


def test_loading_the_definitions_loads_no_science():
    """The page and every tick of a sensor do it; what computes is imported by what computes."""
    heavy = (
        "torch",
        "transformers",
        "matplotlib",
        "scipy",
        "statsmodels",
        "pingouin",
        "peft",
        "jinja2",
        "great_tables",
    )
    code = f"import sys, persona_assets.definitions; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_science_package_is_loaded_by_use_and_not_by_inspection():
    """PyTorch looks through all modules while it is imported."""
    code = """
import sys, inspect, persona_assets.definitions
from persona_assets import metrics, presentation
inspect.getmodule(inspect.currentframe(), "nowhere.py")
inspect.unwrap(presentation)
from persona_assets.inference import choose_hardware
choose_hardware
print([name for name in ("matplotlib", "statsmodels", "persona_assets.metrics.averaging") if name in sys.modules])
print(metrics.GENERATOR_SUBSETS[0], "persona_assets.metrics.averaging" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["[]", "all True"]


@pytest.mark.parametrize("module", [checks, checkpoint_checks, leakage_checks])
def test_every_check_of_a_module_is_served(module):
    made = [value for value in vars(module).values() if isinstance(value, dg.AssetChecksDefinition)]
    assert made == module.CHECKS
