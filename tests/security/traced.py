"""Responses, divergence, centroids and a marker of the tiny model, with PyTorch's unpickler written down as well.

Usage: traced.py STUDY MODEL, in a new instance's folder. PyTorch's own unpickler raises no audit event.
"""

import sys

import dagster as dg
import sitecustomize  # the guard's, which PYTHONPATH names
import torch

from persona_assets.definitions import build_definitions
from persona_assets.graph.home import Home
from persona_assets.runs.run import Run
from persona_assets.store.instance import make_home
from persona_assets.study.files import load_study


def written_down(name, function):
    def traced(*arguments, **options):
        sitecustomize.write(name, str(arguments[0]) if arguments else "")
        return function(*arguments, **options)

    return traced


for name in ("load", "save"):
    setattr(torch, name, written_down(f"torch.{name}", getattr(torch, name)))
    setattr(torch.serialization, name, getattr(torch, name))

if __name__ == "__main__":
    home, study = Home.of_environment(), load_study(sys.argv[1])
    make_home(home.root)
    home.registry.add("tiny", {"path": sys.argv[2]})
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        run = Run(instance, build_definitions(study, home), home, study, "tiny")
        run.prepare()
        for job in ("identify_checkpoint", "measure_personas", "train_markers"):
            assert run.materialise_job(job)
