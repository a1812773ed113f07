"""Runs `dagster dev` with cross-site protection (see `page.cross_site`); started by `persona-assets ui`.

    python -m persona_assets.page.serve dev …     like `python -m dagster dev …`
    python -m persona_assets.page.serve page …    like `python -m dagster_webserver …`; started by the former

Dagster has no option for adding middleware, so two of its functions are replaced in these processes. Dagster is pinned
to one version, and tests/security checks that cross-site requests are rejected.
"""

import os
import sys
import warnings
from importlib import import_module
from typing import Any

from dagster import SupersessionWarning

from persona_assets.page.cross_site import CrossSiteProtection

PAGE = "PERSONA_ASSETS_PAGE"


def dev() -> None:
    """Run `dagster dev` with `page` as its webserver."""
    warnings.filterwarnings("ignore", category=SupersessionWarning)  # Dagster prefers `dg dev`, which adds nothing here
    command_line: Any = import_module("dagster._cli")  # both are untyped
    dagster_dev: Any = import_module("dagster._cli.dev")
    start = dagster_dev.open_ipc_subprocess

    def start_protected(command: list[str], **options: Any) -> Any:
        if "dagster_webserver" in command:
            place = command.index("dagster_webserver")
            command = [*command[:place], __spec__.name, "page", *command[place + 1 :]]
            # The webserver says little at this level, and the line that says where it listens.
            command[command.index("--dagster-log-level") + 1] = "info"
        return start(command, **options)

    dagster_dev.open_ipc_subprocess = start_protected
    command_line.main()


def page() -> None:
    """Run `dagster_webserver` with cross-site protection."""
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    original = DagsterWebserver.build_middleware
    protection = Middleware(CrossSiteProtection, page=os.environ.get(PAGE, ""))
    DagsterWebserver.build_middleware = lambda self: [protection, *original(self)]  # type: ignore[method-assign]
    webserver: Any = import_module("dagster_webserver.cli")
    webserver.main()


if __name__ == "__main__":
    if sys.argv[1] == "page":
        del sys.argv[1]
        page()
    else:
        dev()
