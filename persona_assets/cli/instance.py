"""`persona-assets ui`, `prune` and `doctor`: serve, clean up and repair an instance."""

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from persona_assets.cli.shared import CheckpointOption, StudyOption, choose_study, open_instance, open_run


def ui(
    study: StudyOption = None,
    host: Annotated[
        str, typer.Option(help="Address to bind to. Dagster has no authentication; see SECURITY.md.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind to.")] = 3000,
    automate: Annotated[
        bool, typer.Option("--automate", help="Measure new checkpoints automatically, unless turned off in the UI.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Serve under a secret URL path, for machines with other users.")
    ] = False,
) -> None:
    """Serve Dagster's web UI for this instance, and run its daemon."""
    from persona_assets.page.cross_site import LOOPBACK

    choose_study(study)
    if host not in LOOPBACK:
        print(f"warning: anyone who can reach {host}:{port} can control runs; see SECURITY.md", file=sys.stderr)
    if private:  # passed in the environment, because other users can read command lines
        os.environ["DAGSTER_WEBSERVER_PATH_PREFIX"] = f"/{secrets.token_urlsafe(24)}"
    if automate:
        os.environ["PERSONA_ASSETS_AUTOMATE"] = "1"
    os.environ.setdefault("PERSONA_ASSETS_PAGE", f"http://{host}:{port}")
    open_instance().dispose()  # created here under the lock, because Dagster's processes take none
    served = ["persona_assets.page.serve", "dev", "-m", "persona_assets.definitions", "--log-level", "warning"]
    command = [sys.executable, "-m", *served, "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)  # replace this process, so that Ctrl-C reaches Dagster directly


def prune(
    keep: Annotated[int, typer.Option(help="Number of most recently registered checkpoints to keep completely.")],
    delete: Annotated[bool, typer.Option("--delete", help="Delete; the default is a dry run.")] = False,
) -> None:
    """Delete results that need a model, for all but the latest checkpoints; tables and reports are kept."""
    from persona_assets.graph.home import Home
    from persona_assets.upkeep import retention

    home = Home.of_environment()
    kept, unneeded = retention.prunable(open_instance(), home, keep)
    print(
        f"keeps         {', '.join(kept) or 'no checkpoint'}; of the others, only tables, figures, reports and records"
    )
    for line in retention.summary(unneeded):
        print(f"{'deletes' if delete else 'would delete':14}{line}")
    freed = retention.prune(home, unneeded) if delete else sum(each.size for each in unneeded)
    hint = "" if delete or not unneeded else "; use --delete to delete them"
    print(f"{'freed' if delete else 'would free':14}{freed / 2**20:.1f} MiB{hint}")


def doctor(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
    mend: Annotated[bool, typer.Option("--mend", help="Repair; without it, only report problems.")] = False,
    self_test: Annotated[
        bool,
        typer.Option(
            "--self-test",
            help="Only check that this machine computes correctly (two minutes); with --checkpoint, that this "
            "checkpoint is computed as its own forward pass computes it.",
        ),
    ] = False,
) -> None:
    """Find and repair artefacts without events, events without artefacts, damaged files and dead runs."""
    if self_test and checkpoint:
        sys.exit(0 if _self_check(study, checkpoint) else 1)
    if self_test:
        from persona_assets.upkeep.self_test import self_test as run_self_test

        sys.exit(0 if run_self_test(Path(os.environ["DAGSTER_HOME"]) / "models") else 1)
    from persona_assets.upkeep import doctor as doctoring

    session = open_run(study, checkpoint, prepare=False)
    assets = [key.to_user_string() for key in session.defs.resolve_asset_graph().get_all_asset_keys()]
    findings = doctoring.examine(session.instance, session.home, sorted(assets))
    for finding in findings:
        print(f"{finding.kind}: {finding.where}: {finding.what}; {'' if mend else 'would '}{finding.mend}")
    if not findings:
        print("no problems found")
    elif not mend:
        print(f"{len(findings)} problem(s) found; use --mend to repair them")
    else:
        doctoring.mend(session.instance, session.home, findings)
        session.prepare()
        session.materialise()
        left = doctoring.examine(session.instance, session.home, sorted(assets))
        print(f"repaired {len(findings) - len(left)} of {len(findings)}; others belong to other studies or checkpoints")


def _self_check(study: str | None, checkpoint: str) -> bool:
    """Run a checkpoint's self-check again, print its comparisons, and return whether all passed."""
    session = open_run(study, checkpoint, prepare=False)
    import logging

    from persona_assets.checkpoints import identify
    from persona_assets.graph.resources import Gpu
    from persona_assets.runs.self_check import run_self_check

    registered = session.home.registry.get(checkpoint)
    identity = identify(registered, session.home.digests)
    gpu = Gpu(**session.study.inference.model_dump())
    log = logging.getLogger("persona_assets")
    found, _ = run_self_check(session.home, session.study, gpu, registered, identity, log, again=True)
    print(found.metadata["comparisons"].value)
    print(f"{checkpoint}: {'ok' if found.passed else 'FAILED'}: {found.description}")
    return bool(found.passed)
