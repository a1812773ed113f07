"""Self-check of a checkpoint before anything is measured on it: once per checkpoint, prompts and hardware."""

from typing import Any

import dagster as dg

from persona_assets import inference
from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.graph.check_events import report_check
from persona_assets.graph.home import Home
from persona_assets.graph.resources import Gpu
from persona_assets.stages.self_check import max_new_tokens
from persona_assets.study import Study
from persona_assets.workers.choice import choose_workers
from persona_assets.workers.in_process import InProcess
from persona_assets.workers.tasks import Task

SELF_CHECK = "computed_as_its_own_forward_pass"
# Raise it when the comparisons change.
CODE = 2


def require_self_check(
    instance: dg.DagsterInstance,
    home: Home,
    study: Study,
    gpu: Gpu,
    checkpoint: Checkpoint,
    identity: Identity,
    log: Any,
) -> None:
    """Run the self-check unless it is stored, report it to Dagster, and stop if it failed.

    Raises:
        SelfCheckError: the model is not computed as its own forward pass computes it.
    """
    evaluation, computed = run_self_check(home, study, gpu, checkpoint, identity, log)
    if computed:
        report_check(instance, evaluation)
    if not evaluation.passed:
        raise inference.SelfCheckError(evaluation.description)


def run_self_check(
    home: Home,
    study: Study,
    gpu: Gpu,
    checkpoint: Checkpoint,
    identity: Identity,
    log: Any,
    again: bool = False,
) -> tuple[dg.AssetCheckEvaluation, bool]:
    """Return the stored or new result, and whether it is new.

    Args:
        again: run the check in this process, even if a result is stored, and store nothing.
    """
    environment = gpu.environment("self_check", identity)
    made_from = {
        "asset": "self_check",
        "code": CODE,
        "checkpoint": identity.digest,
        "study": {
            "max_new_tokens": max_new_tokens(study),
            "deterministic": study.deterministic,
            "prompts": {name: study.prompts[name] for name in study.scoring},
            "questions": study.questions,
            "chat": study.chat.identity(),
        },
        "environment": environment,
        "upstream": None,
    }
    stored = None if again else home.store.find("self_check", made_from)
    computed = stored is None
    if stored is not None:
        table, cost = stored.read(), stored.measured
    else:
        log.info(f"{checkpoint.name}: comparing the model with its own forward pass")
        task = Task("self_check", study, checkpoint, identity, environment, (study.baseline,), {})
        workers = InProcess(gpu, home, log) if again else choose_workers(gpu, home, log)
        (result,) = workers.make([task])
        assert result.value is not None
        table, cost = result.value, result.cost
        if not again:
            table = home.store.put("self_check", made_from, table, cost).read()
    findings = [
        inference.Finding(str(row["part"]), float(row["error"]), float(row["limit"]), str(row["what"]))
        for row in table.to_dict("records")
    ]
    problem = inference.describe_failures(findings, checkpoint.name, str(table.family.iloc[0]))
    return (
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("model_checkpoint"),
            check_name=SELF_CHECK,
            passed=problem is None,
            partition=checkpoint.name,
            description=problem or f"{len(findings)} comparisons, all within rounding",
            metadata={
                "comparisons": dg.MetadataValue.md(_markdown(findings)),
                "seconds": float(cost["seconds"]),
                **environment,
            },
        ),
        computed,
    )


def _markdown(findings: list[Any]) -> str:
    rows = [
        f"| {each.part} | {each.error:.2g} | {each.limit:.2g} | {each.what} | {'yes' if each.passed else '**no**'} |"
        for each in findings
    ]
    return "\n".join(
        ["| compared with the plain forward pass | found | at most | unit | passed |", "|" + " --- |" * 5, *rows]
    )
