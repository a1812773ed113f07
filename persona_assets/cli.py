"""The command `persona-assets`."""

import os
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from persona_assets.checkpoints import CheckpointError, DigestCache, identify
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.scan import arrivals_in
from persona_assets.checkpoints.training_step import training_step
from persona_assets.checkpoints.watched import Watched
from persona_assets.files.redaction import discreet, print_traceback
from persona_assets.published.files import PublishedRunError
from persona_assets.store.artefacts import ArtefactError
from persona_assets.store.instance import InstanceError, database_trouble, make_home, opening
from persona_assets.store.shared import SharedStorageError
from persona_assets.study import StudyError
from persona_assets.study.files import ENVIRONMENT_VARIABLE, load_study, study_path

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
checkpoint_app = typer.Typer(no_args_is_help=True, help="Register and list the checkpoints that can be measured.")
import_app = typer.Typer(no_args_is_help=True, help="Bring in what somebody else measured.")
study_app = typer.Typer(no_args_is_help=True, help="Check a study's file.")
watch_app = typer.Typer(no_args_is_help=True, help="Say where checkpoints arrive by themselves, and see what is there.")
app.add_typer(checkpoint_app, name="checkpoint")
app.add_typer(import_app, name="import")
app.add_typer(study_app, name="study")
app.add_typer(watch_app, name="watch")

StudyOption = Annotated[
    str | None,
    typer.Option(
        "--study",
        help="A YAML file, a shipped study (embedded, published) or an imported run's name. "
        "Without it PERSONA_ASSETS_STUDY, then embedded.",
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        help="A registered checkpoint's name. Without it the embedded model, which is fetched if it is not there; "
        "of an imported study that study's own run."
    ),
]
EMBEDDED = "smollm2-135m-instruct"
INTERRUPTED = 130  # what shells say of a command that was interrupted
# Errors of rooms that are imported only where they are needed.
_IMPORTED_LATE = ("LeakageError", "NonFiniteError", "EngineError", "OutOfMemoryError")


@app.callback()
def about() -> None:
    """How a language model's personas differ: responses, Jensen–Shannon divergence, centroids, report.

    A study (YAML) says what is measured, the registry says on which checkpoints, and Dagster materialises the rest.
    To begin: `persona-assets run`, then `persona-assets ui`.
    """
    os.environ.setdefault("DAGSTER_HOME", str(Path("dagster_home").absolute()))
    os.umask(os.umask(0o022) | 0o002)  # whatever the umask was, nothing is written that everybody can change
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)


@app.command()
def run(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Materialise everything that is missing or out of date for a checkpoint, and print the headline numbers."""
    session = _session(study, checkpoint)
    for asset, why in session.reasons().items():
        print(f"out of date: {asset}: {'; '.join(why)}")
    start = time.perf_counter()
    ran = session.materialise()
    seconds = time.perf_counter() - start
    from persona_assets.runs.summary import summary

    print(summary(session.instance, session.home, session.study, session.checkpoint))
    print(f"took      {seconds:.1f} s" if ran else "nothing to compute: everything was current")


@app.command()
def status(
    study: StudyOption = None,
    checkpoint: CheckpointOption = None,
) -> None:
    """Say which artefacts of a checkpoint are current, missing, or out of date, and what has changed since."""
    session = _session(study, checkpoint)
    why = session.reasons()
    for asset, partitions in session.standings().items():
        counts = {kind: list(partitions.values()).count(kind) for kind in ("current", "out of date", "missing")}
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        print(f"{asset:16} {said}" + (f": {'; '.join(why[asset])}" if asset in why else ""))


@app.command()
def plan(
    study: StudyOption = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="A registered checkpoint's name; only its shape is read.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Instead: qwen2.5-7b, or the path of a config.json.")] = None,
    response_tokens: Annotated[int | None, typer.Option(help="Mean tokens of a response, where it is known.")] = None,
    personas: Annotated[int | None, typer.Option(help="As if the study had so many personas.")] = None,
    questions: Annotated[int | None, typer.Option(help="As if it asked so many questions.")] = None,
    cards: Annotated[
        int | None, typer.Option(help="Cards of one host, each with the whole model or its share of one.")
    ] = None,
) -> None:
    """Say what a run will take: passes, tokens, operations, memory, storage and time. Loads and starts nothing."""
    from persona_assets.checkpoints import shape
    from persona_assets.planning.plan import plan, sizes, text

    loaded = load_study(study)
    chosen = shape.chosen_shape(loaded.name, _registry(), checkpoint, shape)
    sized = sizes.resized(loaded, personas, questions)
    print(text.text(plan.plan(sized, chosen, response_tokens, cards), response_tokens is not None))


@app.command()
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

    _choose_study(study)
    if host not in LOOPBACK:
        print(f"warning: whoever reaches {host}:{port} can start and delete runs; see SECURITY.md", file=sys.stderr)
    if private:  # by the environment: command lines can be read by everybody
        os.environ["DAGSTER_WEBSERVER_PATH_PREFIX"] = f"/{secrets.token_urlsafe(24)}"
    if automate:
        os.environ["PERSONA_ASSETS_AUTOMATE"] = "1"
    os.environ.setdefault("PERSONA_ASSETS_PAGE", f"http://{host}:{port}")
    _instance().dispose()  # made here, under its lock: Dagster's own processes take none
    served = ["persona_assets.page.serve", "dev", "-m", "persona_assets.definitions"]
    command = [sys.executable, "-m", *served, "-h", host, "-p", str(port)]
    os.execv(sys.executable, command)  # nothing stands between a person's Ctrl-C and Dagster


@app.command()
def prune(
    keep: Annotated[int, typer.Option(help="How many checkpoints, the last registered, keep everything.")],
    delete: Annotated[bool, typer.Option("--delete", help="Do it; otherwise only say what would be deleted.")] = False,
) -> None:
    """Delete what took a model to make for all but the last checkpoints; tables and reports are kept for ever."""
    from persona_assets.graph.home import Home
    from persona_assets.upkeep import retention

    home = Home.of_environment()
    kept, doomed = retention.prunable(_instance(), home, keep)
    print(f"keeps         {', '.join(kept) or 'no checkpoint'}; of all others tables, figures, reports and records")
    for line in retention.summary(doomed):
        print(f"{'deletes' if delete else 'would delete':14}{line}")
    freed = retention.prune(home, doomed) if delete else sum(each.size for each in doomed)
    again = "" if delete or not doomed else "; say --delete to do it"
    print(f"{'freed' if delete else 'would free':14}{freed / 2**20:.1f} MiB{again}")


@app.command()
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

    session = _session(study, checkpoint, prepare=False)
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


@checkpoint_app.command("add")
def checkpoint_add(
    name: Annotated[str, typer.Argument(help="Its name from now on: lower-case letters, digits, '_', '.', '-'.")],
    path: Annotated[Path | None, typer.Option(help="A local Hugging Face directory.")] = None,
    hub: Annotated[str | None, typer.Option(help="A hub repository, such as Qwen/Qwen2.5-7B-Instruct.")] = None,
    revision: Annotated[str | None, typer.Option(help="The repository's commit, 40 hex digits.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="A LoRA adapter's directory, measured on top.")] = None,
    series: Annotated[str | None, typer.Option(help="The training run that it belongs to.")] = None,
    step: Annotated[
        int | None, typer.Option(min=0, help="Its training step. Without it what the trainer wrote beside the weights.")
    ] = None,
) -> None:
    """Register a checkpoint: a local directory, or a hub repository at a commit; optionally with a LoRA adapter."""
    registry = _registry()
    directory = adapter or path
    fields = {
        "path": _absolute(path),
        "hub": hub,
        "revision": revision,
        "adapter": _absolute(adapter),
        "series": series,
        "step": training_step(directory) if step is None and directory else step,
    }
    checkpoint = registry.add(name, {field: value for field, value in fields.items() if value is not None})
    if checkpoint.path is not None:
        print(f"{name}: {identify(checkpoint, _digests()).digest}")
    print(f"added to {registry.file}; measure it with `persona-assets run --checkpoint {name}`")


@checkpoint_app.command("list")
def checkpoint_list(
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte of local weights again.")] = False,
) -> None:
    """List the registered checkpoints with their digests."""
    registry = _registry()
    if not registry.names():
        print(f"none in {registry.file}; add one with `persona-assets checkpoint add`")
    for name in registry.names():
        checkpoint = registry.get(name)
        if checkpoint.imported is not None:
            print(f"{name:32} imported, see it with `--study {name}`")
            continue
        if checkpoint.path is None:
            print(f"{name:32} {checkpoint.hub} at {checkpoint.revision}")
            continue
        try:
            print(f"{name:32} {identify(checkpoint, _digests(), recheck=verify).digest[:16]} {checkpoint.path}")
        except CheckpointError as error:
            print(f"{name:32} cannot be measured: {error}")


@import_app.command("published-run")
def import_published_run(
    directory: Annotated[Path, typer.Argument(help="Folder of the run's files; docs/published-run.md says which.")],
    name: Annotated[str, typer.Option("--as", help="Name of its checkpoint and its study from now on.")],
    baseline: Annotated[str, typer.Option(help="The persona that others are compared with.")] = "assistant",
) -> None:
    """Record a published run as a checkpoint of its own; its tables, statistics and report need no model."""
    from persona_assets.graph.home import Home
    from persona_assets.published import importing

    home = Home.of_environment()
    brought = importing.import_published_run(_instance(), home, directory, name, baseline)
    personas, questions = len(brought.study.personas), len(brought.study.questions)
    print(f"imported  {name}: {personas} personas × {questions} questions; {brought.reported} partitions reported")
    print("absent    " + "\n          ".join(brought.absent))
    print(f"study     {brought.study_file}; next: `persona-assets run --study {name}`")


@watch_app.command("add")
def watch_add(
    name: Annotated[str, typer.Argument(help="Its name, and that of the series of what arrives there.")],
    directory: Annotated[Path | None, typer.Option(help="A folder that gets `checkpoint-*` folders.")] = None,
    hub: Annotated[str | None, typer.Option(help="A hub repository; each commit from now on is a checkpoint.")] = None,
    branch: Annotated[str | None, typer.Option(help="The repository's branch; without it main.")] = None,
    base: Annotated[
        str | None,
        typer.Option(help="A registered checkpoint: what adapters found there are measured on, step 0 of the series."),
    ] = None,
) -> None:
    """Have checkpoints registered as they arrive, in a directory or in a branch of a hub repository."""
    if base is not None:
        _registry().get(base)
    place = {"directory": _absolute(directory), "hub": hub, "branch": branch, "base": base}
    _watched().add(name, {field: value for field, value in place.items() if value is not None})
    print(f"added to {_watched().file}; `persona-assets watch list` says what is there now")


@watch_app.command("list")
def watch_list() -> None:
    """List the watches, and what is in each of them now: registered, complete, or waiting for what."""
    registry, watches = _registry(), _watched().all()
    if not watches:
        print(f"none in {_watched().file}; add one with `persona-assets watch add`")
    for watch in watches:
        print(f"{watch.name}: {watch.directory or f'{watch.hub}, branch {watch.branch}'}")
        found = {each.name: "registered" for each in registry.all() if each.series == watch.name}
        try:
            for arrival in arrivals_in(watch, registry):
                state = "registered" if arrival.name in registry.names() else "complete"
                found[arrival.name] = f"waits: {arrival.waits}" if arrival.waits else state
        except CheckpointError as error:
            print(f"  cannot be looked into: {error}")
        for name, state in found.items():
            print(f"  {name:32} {state}")


@study_app.command("check")
def study_check(study: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped study.")]) -> None:
    """Load a study and say what it measures, or what is wrong with it."""
    loaded = load_study(study)
    personas, pairs = len(loaded.personas), len(loaded.personas) * (len(loaded.personas) - 1) // 2
    print(
        f"{study_path(study)}: {loaded.name}: {personas} personas ({pairs} pairs, baseline {loaded.baseline}), "
        f"{len(loaded.questions)} questions, "
        + (f"at most {loaded.decoding.max_new_tokens} tokens each" if loaded.decoding else "imported")
    )


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path is not None else None


def _registry() -> Registry:
    return Registry(Path(os.environ["DAGSTER_HOME"]) / "checkpoints.yaml")


def _watched() -> Watched:
    return Watched(Path(os.environ["DAGSTER_HOME"]) / "watched.yaml")


def _digests() -> DigestCache:
    return DigestCache(Path(os.environ["DAGSTER_HOME"]) / "weights_digests.json")


def _choose_study(study: str | None) -> None:
    """Definitions load the study from the environment, in this process and in those that Dagster starts."""
    if study:
        os.environ[ENVIRONMENT_VARIABLE] = str(study_path(study).absolute())
    load_study()


def _instance() -> Any:
    """Dagster's instance; a new one begins with the project's settings."""
    import dagster as dg

    from persona_assets.upkeep.migration import migrate

    home = Path(os.environ["DAGSTER_HOME"])
    with opening(home, print):
        make_home(home)
        instance = dg.DagsterInstance.get()
        migrate(instance, print)
        return instance


def _session(study: str | None, checkpoint: str | None, prepare: bool = True) -> Any:
    """An instance with the code location loaded; imported late, so that `--help` answers at once."""
    _choose_study(study)
    from persona_assets.definitions import defs
    from persona_assets.graph.home import Home
    from persona_assets.graph.partitions import STUDY
    from persona_assets.inference.embedded_model import ensure_embedded_model
    from persona_assets.runs.run import Run

    home = Home.of_environment()
    checkpoint = checkpoint or (STUDY.name if STUDY.imported else EMBEDDED)
    with opening(home.root, print):
        if checkpoint == EMBEDDED and EMBEDDED not in home.registry.names():
            directory = ensure_embedded_model(home.models)
            home.registry.add(EMBEDDED, {"path": str(directory.relative_to(home.root))})
        home.registry.get(checkpoint)
        session = Run(_instance(), defs, home, STUDY, checkpoint)
        if prepare:
            session.prepare()
    return session


def main() -> None:
    """Runs the command; the project's own errors are sentences, not tracebacks, and no error tells a secret."""
    sys.excepthook = print_traceback
    try:
        app()
    except (StudyError, CheckpointError, ArtefactError, InstanceError, PublishedRunError, SharedStorageError) as error:
        sys.exit(discreet(f"{type(error).__name__}: {error}"))
    except (ValueError, RuntimeError) as error:
        if type(error).__name__ not in _IMPORTED_LATE:
            raise
        sys.exit(discreet(f"{type(error).__name__}: {error}"))
    except Exception as error:
        if (said := database_trouble(error)) is None:
            raise
        sys.exit(discreet(said))
    except BaseException as error:
        # Dagster's own, for Ctrl-C and for being terminated while it runs something.
        if type(error).__name__ != "DagsterExecutionInterruptedError":
            raise
        print("interrupted; what is done is stored, and the same command goes on from there", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
