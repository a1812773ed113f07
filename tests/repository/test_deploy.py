"""What is in deploy/ is well formed: manifests by Kubernetes' own schemas, the batch script by being run."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from kubernetes_validate import ValidationError, validate

from persona_assets.study import Study

KUBERNETES = "1.33"


def documents(repository: Path) -> dict[str, Any]:
    files = sorted((repository / "deploy" / "kubernetes").glob("*.yaml"))
    return {file.name: yaml.safe_load(file.read_text(encoding="utf-8")) for file in files}


def pods(repository: Path) -> list[Any]:
    found = documents(repository)
    return [found[name]["spec"]["template"]["spec"] for name in ("page.yaml", "measure.yaml")]


def test_manifests_are_what_kubernetes_takes(repository: Path) -> None:
    found = documents(repository)
    assert {document["kind"] for document in found.values()} == {
        "ConfigMap",
        "Deployment",
        "Job",
        "NetworkPolicy",
        "PersistentVolumeClaim",
    }
    for document in found.values():
        validate(document, KUBERNETES, strict=True)
    found["page.yaml"]["spec"]["replica"] = 2
    with pytest.raises(ValidationError):
        validate(found["page.yaml"], KUBERNETES, strict=True)


def test_manifests_name_what_the_others_make(repository: Path) -> None:
    found = documents(repository)
    claim, study = found["storage.yaml"]["metadata"]["name"], found["study.yaml"]["metadata"]["name"]
    for pod in pods(repository):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["instance"]["persistentVolumeClaim"]["claimName"] == claim
        assert volumes["study"]["configMap"]["name"] == study
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            assert container["securityContext"]["readOnlyRootFilesystem"]
    assert found["network.yaml"]["spec"]["podSelector"]["matchLabels"] == {"app": "persona-assets"}


def test_the_study_in_the_manifest_is_one(repository: Path) -> None:
    text = documents(repository)["study.yaml"]["data"]["study.yaml"]
    assert Study.model_validate(yaml.safe_load(text)).baseline == "assistant"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """Stand-ins for `persona-assets` and `scontrol`: this is about the script. They write down what they are told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, then in (
        ("persona-assets", 'case "$5" in fails) exit 1 ;; long) exec sleep 60 ;; esac'),
        ("scontrol", ""),
    ):
        command = folder / name
        command.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> "{tmp_path}/said"\n{then}\n')
        command.chmod(0o755)
    return folder


def started(repository: Path, commands: Path, *checkpoints: str) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "STUDY": "mine.yaml",
        "DAGSTER_HOME": str(commands.parent),
        "SLURM_JOB_ID": "7",
    }
    script = repository / "deploy" / "slurm" / "measure.sbatch"
    return subprocess.Popen([script, *checkpoints], env=environment, text=True, stderr=subprocess.PIPE)


def test_the_batch_script_measures_one_after_another_and_names_what_failed(
    repository: Path, commands: Path, tmp_path: Path
) -> None:
    _, errors = started(repository, commands, "first", "fails", "last").communicate(timeout=30)
    said = (tmp_path / "said").read_text().splitlines()
    assert said == [f"persona-assets run --study mine.yaml --checkpoint {name}" for name in ("first", "fails", "last")]
    assert errors == "not measured: fails\n"


def test_the_batch_script_asks_to_be_put_back(repository: Path, commands: Path, tmp_path: Path) -> None:
    job, said = started(repository, commands, "long", "never"), tmp_path / "said"
    while not said.exists() or not said.read_text().endswith("\n"):
        time.sleep(0.05)
    # A signal that comes between the start of the background job and bash's `wait` is seen when that ends.
    while psutil.Process(job.pid).status() != psutil.STATUS_SLEEPING:
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=30) == 0
    assert said.read_text().splitlines() == [
        "persona-assets run --study mine.yaml --checkpoint long",
        "scontrol requeue 7",
    ]


def test_rays_environment_says_what_is_missing_and_exports_the_rest(repository: Path) -> None:
    script = repository / "deploy" / "ray" / "environment.sh"
    given = {"RAY_ADDRESS": "10.0.0.1:6379", "DAGSTER_HOME": "/data", "DATABASE_URL": "postgresql+psycopg2://u@h/name"}
    command = ["bash", "-c", f"source {script} && env"]
    for name in given:
        without = {each: value for each, value in given.items() if each != name}
        found = subprocess.run(command, env=without, capture_output=True, text=True, check=False)
        assert found.returncode != 0
        assert name in found.stderr
    found = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    exported = dict(line.split("=", 1) for line in found.stdout.splitlines() if "=" in line)
    assert given.items() <= exported.items()
    assert (exported["PERSONA_ASSETS_WORKERS"], exported["PERSONA_ASSETS_SHARED"]) == ("ray", "")
