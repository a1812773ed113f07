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
        str, typer.Option(help="Address to listen on; Dagster asks nobody who they are, see SECURITY.md.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the page.")] = 3000,
    automate: Annotated[
        bool, typer.Option("--automate", help="Measure new checkpoints by themselves, unless turned off in the page.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Serve it below a secret address, on a machine that others use too.")
    ] = False,
) -> None:
    """Serve Dagster's page over this instance, with its daemon."""
    from persona_assets.page.cross_site import LOOPBACK

    choose_study(study)
    if host not in LOOPBACK:
        print(f"warning: whoever reaches {host}:{port} can start and delete runs; see SECURITY.md", file=sys.stderr)
    if private:  # by the environment: command lines can be read by everybody
        os.environ["DAGSTER_WEBSERVER_PATH_PREFIX"] = f"/{secrets.token_urlsafe(24)}"
    if automate:
        os.environ["PERSONA_ASSETS_AUTOMATE"] = "1"
    os.environ.setdefault("PERSONA_ASSETS_PAGE", f"http://{host}:{port}")
    open_instance().dispose()  # made here, under its lock: Dagster's own processes take none
    served = ["persona_assets.page.serve", "dev", "-m", "persona_assets.definitions"]
    command = [sys.executable, "-m", *served, "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)  # nothing stands between a person's Ctrl-C and Dagster


def prune(
    keep: Annotated[int, typer.Option(help="How many checkpoints, the last registered, keep everything.")],
    delete: Annotated[bool, typer.Option("--delete", help="Do it; otherwise only say what would be deleted.")] = False,
) -> None:
    """Delete what took a model to make for all but the last checkpoints; tables and reports are kept for ever."""
    from persona_assets.graph.home import Home
    from persona_assets.upkeep import retention

    home = Home.of_environment()
    kept, doomed = retention.prunable(open_instance(), home, keep)
    print(f"keeps         {', '.join(kept) or 'no checkpoint'}; of all others tables, figures, reports and records")
    for line in retention.summary(doomed):
        print(f"{'deletes' if delete else 'would delete':14}{line}")
    freed = retention.prune(home, doomed) if delete else sum(each.size for each in doomed)
    again = "" if delete or not doomed else "; say --delete to do it"
    print(f"{'freed' if delete else 'would free':14}{freed / 2**20:.1f} MiB{again}")


def doctor(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
    mend: Annotated[bool, typer.Option("--mend", help="Do it; otherwise only say what is wrong.")] = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Instead: whether this machine computes right. Two minutes.")
    ] = False,
) -> None:
    """Find what broke: artefacts without an event and events without one, damaged files, dead runs; mend it."""
    if self_test:
        from persona_assets.upkeep.self_test import self_test as tried

        sys.exit(0 if tried(Path(os.environ["DAGSTER_HOME"]) / "models") else 1)
    from persona_assets.upkeep import doctor as doctoring

    session = open_run(study, checkpoint, prepare=False)
    assets = [key.to_user_string() for key in session.defs.resolve_asset_graph().get_all_asset_keys()]
    findings = doctoring.examine(session.instance, session.home, sorted(assets))
    for finding in findings:
        print(f"{finding.kind}: {finding.where}: {finding.what}; {'' if mend else 'would '}{finding.mend}")
    if not findings:
        print("nothing is wrong")
    elif not mend:
        print(f"{len(findings)} found; say --mend to mend them")
    else:
        doctoring.mend(session.instance, session.home, findings)
        session.prepare()
        session.materialise()
        left = doctoring.examine(session.instance, session.home, sorted(assets))
        print(f"mended {len(findings) - len(left)} of {len(findings)}; left is what other studies and checkpoints made")
