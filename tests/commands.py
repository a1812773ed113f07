"""Python as a process of its own, as a user starts it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start Python with these arguments; standard error goes where standard output goes."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments to its end."""
    variables = {**os.environ, **environment}
    return subprocess.run([sys.executable, *arguments], env=variables, capture_output=True, text=True, check=False)
