"""The code location, loaded as in workspace.yaml, has the assets, jobs and sensors of the design."""

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
# asset: (partitions, upstream assets)
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
    "marker_log_probs": (PER_SOURCE, {"model_checkpoint", "marker_adapter", "generations", "persona_prompts"}),
    "leakage_table": (PER_CHECKPOINT, {"marker_log_probs", "marker_rates"}),
    "pair_table": (PER_CHECKPOINT, {"logit_js_matrix", "centroid_cosine", "leakage_table"}),
    "partial_correlations": (PER_CHECKPOINT, {"pair_table", "logit_js_matrix", "marker_log_probs", "marker_rates"}),
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
HEAVY = {"generations", "logit_js", "centroids", "marker_adapter", "marker_log_probs", "marker_rates"}


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


def test_assets_partitions_and_dependencies_match_the_design(defs):
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


def test_every_asset_has_a_description_kinds_and_an_owner(defs):
    for spec in defs.resolve_all_asset_specs():
        assert spec.description, spec.key
        assert spec.kinds, spec.key
        (owner,) = spec.owners
        assert owner in ("team:study", "team:measurement", "team:analysis"), spec.key


def test_group_names_sort_in_the_order_of_the_data_flow(defs):
    groups = {spec.key: spec.group_name for spec in defs.resolve_all_asset_specs()}
    assert sorted(set(groups.values())) == [
        "1_study", "2_checkpoint", "3_responses", "4_divergence", "5_geometry", "6_leakage", "7_statistics",
        "8_drift", "9_presentation",
    ]  # fmt: skip
    for spec in defs.resolve_all_asset_specs():
        for dep in spec.deps:
            assert groups[dep.asset_key] <= spec.group_name, (dep.asset_key, spec.key)


def test_tables_and_arrays_have_a_schema_before_the_first_materialisation(defs):
    described = {**schemas.COLUMNS, **schemas.VARIABLES}
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        if name in schemas.COLUMNS:
            assert all(column.description for column in spec.metadata["dagster/column_schema"].columns), name
        elif name in schemas.VARIABLES:
            assert all(row.data["dimensions"] and row.data["says"] for row in spec.metadata["variables"].records), name
    files = {"marker_adapter", "figures", "report", "checkpoint_drift"}
    assert TABLE.keys() - described.keys() == {"model_checkpoint", "persona_prompts"} | files


def test_every_setting_of_the_launchpad_has_a_default_and_a_description(defs):
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


def test_logit_js_of_every_generator_depends_on_all_prompts(defs):
    graph = defs.resolve_asset_graph()
    mapping = graph.get_partition_mapping(dg.AssetKey("logit_js"), dg.AssetKey("persona_prompts"))
    assert isinstance(mapping, dg.AllPartitionMapping)


def test_drift_depends_on_all_checkpoints(defs):
    graph = defs.resolve_asset_graph()
    for table in ("logit_js_matrix", "centroid_cosine", "leakage_table"):
        mapping = graph.get_partition_mapping(dg.AssetKey("checkpoint_drift"), dg.AssetKey(table))
        assert isinstance(mapping, dg.AllPartitionMapping)


def test_sensors_and_schedules_that_launch_runs_are_off_by_default(defs):
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


def test_usual_jobs_do_not_re_read_all_weights(defs):
    expensive = dg.AssetCheckKey(dg.AssetKey("model_checkpoint"), "weights_are_unchanged")
    assert expensive in defs.resolve_asset_graph().asset_check_keys
    for name in ("identify_checkpoint", "measure_personas", "compare_personas"):
        assert expensive not in defs.resolve_job_def(name).asset_layer.asset_graph.asset_check_keys


def test_loading_the_definitions_imports_no_heavy_libraries():
    """Dagster's page and every sensor tick load the definitions, so this has to be fast."""
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


def test_science_packages_are_imported_on_use_but_not_on_inspection():
    """Importing PyTorch inspects all loaded modules, which must not trigger the lazy imports."""
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
def test_every_check_of_a_module_is_listed_in_its_checks(module):
    made = [value for value in vars(module).values() if isinstance(value, dg.AssetChecksDefinition)]
    assert made == module.CHECKS
