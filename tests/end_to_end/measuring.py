"""A process that measures the tiny model's personas and nothing else: `persona-assets run` less markers and report."""

import re
from collections import Counter

from tests.commands import start

# Imports what takes seconds, waits for a line, and then goes.
MEASURE = """
import sys
from persona_assets import cli, definitions
from persona_assets.cli.shared import open_run

@cli.app.command()
def measure() -> None:
    session = open_run(None, "tiny")
    for job in ("identify_checkpoint", "measure_personas"):
        session.materialise_job(job)

print("ready", flush=True)
sys.stdin.readline()
sys.argv = ["persona-assets", "measure"]
cli.main()
"""
COMPUTED = re.compile(r"^[\d:]+ (\w+) \d+/\d+ (\w+): \d+ tokens in", re.MULTILINE)


def started(code, environment):
    """The process once it is ready; a line lets it go."""
    process = start(["-c", code], environment)
    assert process.stdout.readline() == "ready\n"
    return process


def let_go(process):
    process.stdin.write("go\n")
    process.stdin.flush()


def computed(*outputs):
    """(asset, persona) → how often it was computed."""
    return Counter(found.groups() for said in outputs for found in COMPUTED.finditer(said))
