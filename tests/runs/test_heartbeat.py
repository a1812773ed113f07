"""Long computations say that they are alive, and only then."""

import functools
import logging
import time

import dagster as dg
import pytest

from persona_assets.assets import decorators
from persona_assets.runs.heartbeat import heartbeat


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_silent_computation_logs_what_is_done_so_far(lines):
    with heartbeat(logging.getLogger("run"), lambda: "marker_rates 1/5 done", silence=0.1):
        time.sleep(0.35)
    assert 2 <= len(lines()) <= 3
    assert all(line.startswith("marker_rates 1/5 done; working for ") for line in lines())


def test_a_computation_that_logs_by_itself_gets_no_further_lines(lines):
    with heartbeat(logging.getLogger("run"), lambda: "done", silence=0.3) as log:
        for step in range(8):
            time.sleep(0.1)
            log.info(f"step {step}")
    assert lines() == [f"step {step}" for step in range(8)]


def test_the_thread_ends_with_an_error(lines):
    with pytest.raises(ValueError, match="wrong"), heartbeat(logging.getLogger("run"), lambda: "done", silence=0.05):
        raise ValueError("wrong")
    time.sleep(0.2)
    assert lines() == []


def test_a_light_asset_that_works_for_long_logs_that_it_does(monkeypatch, capfd):
    monkeypatch.setattr(decorators, "heartbeat", functools.partial(heartbeat, silence=0.1))

    @decorators.light_asset(group_name="presentation", kinds={"html"})
    def report() -> dg.Output[int]:
        """Work without a word."""
        time.sleep(0.35)
        return dg.Output(1)

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("checkpoint", ["tiny"])
        done = dg.materialize([report], instance=instance, partition_key="tiny")
    assert done.success
    assert done.output_for_node("report") == 1
    assert report.descriptions_by_key[report.key] == "Work without a word."
    assert "report; working for" in capfd.readouterr().err
