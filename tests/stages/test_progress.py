"""Tests of progress lines: regular, and no more than that."""

import itertools
import logging
import time

import pytest

from persona_assets.runs.heartbeat import SILENCE
from persona_assets.stages.progress import INTERVAL, ProgressLines


def test_lines_are_logged_at_intervals_and_say_how_much_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = ProgressLines(logging.getLogger("run"), "sampling 220 replies", "tokens", interval=0.1)
    for step in range(1, 41):
        time.sleep(0.01)
        progress(step * 220, 8_800)
    lines = [record.getMessage() for record in caplog.records]
    assert lines
    logged = [record.created for record in caplog.records]
    # However slow the machine, two lines are an interval apart; the wall clock may differ from the monotonic one.
    assert all(later - earlier > 0.09 for earlier, later in itertools.pairwise(logged))
    for line in lines:
        done = int(line.removeprefix("sampling 220 replies: ").split(" of ")[0].replace(",", ""))
        assert line == f"sampling 220 replies: {done:,} of 8,800 tokens ({done / 8_800:.0%})"


def test_a_short_computation_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    progress = ProgressLines(logging.getLogger("run"), "villain: scoring", "responses")
    for number in range(1, 5):
        progress(number, 4)
    assert caplog.records == []


def test_no_ten_seconds_pass_without_a_line() -> None:
    assert INTERVAL < SILENCE < 10
