"""Whatever a file holds, what reads it takes it or says in its own words what is wrong, soon and without much memory.

`benchmarks/fuzzing.py` runs the same for longer. What it finds goes to `corpus/`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.limits import LONGEST_MESSAGE, within_limits
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bad_input_ends_in_the_projects_own_error(
    name: str, folder_of: Callable[[str], Path], data: st.DataObject
) -> None:
    target = TARGETS[name]
    content = data.draw(target.inputs, label=target.file)
    with within_limits():
        message = target(folder_of(name), content)
    if message is not None:
        assert target.named in message
        assert len(message) <= LONGEST_MESSAGE
