"""`dagster dev`, with a page that other web sites cannot use (see `page.cross_site`): what `persona-assets ui` becomes.

    python -m persona_assets.page.serve dev …     as `python -m dagster dev …`
    python -m persona_assets.page.serve page …    as `python -m dagster_webserver …`; the former starts it

Dagster has no place for a middleware of one's own. Two of its functions are replaced here, in these processes and in
no other; Dagster is pinned to one version, and tests/security holds that the page refuses.
"""

import os
import sys
from importlib import import_module
from typing import Any

from persona_assets.page.cross_site import PageGuard

PAGE = "PERSONA_ASSETS_PAGE"


def dev() -> None:
    """`dagster dev`; its webserver is `page`."""
    command_line: Any = import_module("dagster._cli")  # neither has types
    dagster_dev: Any = import_module("dagster._cli.dev")
    start = dagster_dev.open_ipc_subprocess

    def start_guarded(command: list[str], **options: Any) -> Any:
        if "dagster_webserver" in command:
            place = command.index("dagster_webserver")
            command = [*command[:place], __spec__.name, "page", *command[place + 1 :]]
        return start(command, **options)

    dagster_dev.open_ipc_subprocess = start_guarded
    command_line.main()


def page() -> None:
    """`dagster_webserver`, guarded."""
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    own = DagsterWebserver.build_middleware
    guard = Middleware(PageGuard, page=os.environ.get(PAGE, ""))
    DagsterWebserver.build_middleware = lambda self: [guard, *own(self)]  # type: ignore[method-assign]
    webserver: Any = import_module("dagster_webserver.cli")
    webserver.main()


if __name__ == "__main__":
    if sys.argv[1] == "page":
        del sys.argv[1]
        page()
    else:
        dev()
