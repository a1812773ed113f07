"""Check results that belong to no step: the second one for a partition replaces the first."""

import dagster as dg
import pytest
from sqlalchemy.exc import IntegrityError

from persona_assets.graph.check_events import report_check

KEY = dg.AssetCheckKey(dg.AssetKey("model_checkpoint"), "measured_without_failure")


def result(passed):
    return dg.AssetCheckEvaluation(
        asset_key=KEY.asset_key, check_name=KEY.name, passed=passed, partition="one", description=str(passed)
    )


@pytest.mark.parametrize("run_id", [None, "0" * 32])
def test_the_latest_result_of_a_partition_counts(run_id):
    with dg.instance_for_test() as instance:
        for passed in (False, True):
            report_check(instance, result(passed), run_id)
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([KEY])[KEY]
        assert (latest.evaluation.passed, latest.partition) == (True, "one")


def test_dagster_still_refuses_the_second_result_without_a_run():
    """If this fails, Dagster has mended it and `report_check` is no longer needed."""
    with dg.instance_for_test() as instance:
        instance.report_runless_asset_event(result(False))
        with pytest.raises(IntegrityError):
            instance.report_runless_asset_event(result(True))
