"""A PostgreSQL server of a test's own; pgserver's wheel brings the programs, so that nothing need be installed."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path


class PostgresServer:
    """Listens on loopback and on a socket; is started and stopped as often as a test likes, and keeps its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # As root: PostgreSQL refuses to be root's, so it is nobody's, who may not be let into the virtual environment.
        self._user = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
        spec = find_spec("pgserver")
        assert spec is not None
        assert spec.origin is not None
        package = Path(spec.origin).parent
        for each in (package / "pginstall", package.with_name("pgserver.libs")):
            shutil.copytree(each, folder / each.relative_to(package.parent), symlinks=True)
        folder.chmod(0o755)
        (folder / "own").mkdir(mode=0o755)
        if self._user:
            shutil.chown(folder / "own", "nobody")
        self._run("initdb", "--username=dagster", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8")

    @property
    def url(self) -> str:
        return f"postgresql+psycopg2://dagster@127.0.0.1:{self.port}/postgres"

    @property
    def url_of_socket(self) -> str:
        """For whoever has another loopback, in a network namespace of its own."""
        return f"postgresql+psycopg2://dagster@/postgres?host={self.folder / 'own'}&port={self.port}"

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder / 'own'} -F"
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'own' / 'log'}", f"--options={options}")

    def crash(self) -> None:
        """Ends it at once, as a lost machine would: connections break, and the next start replays the log."""
        self._run("pg_ctl", "stop", "--mode=immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.folder / "pgserver" / "pginstall" / "bin" / program), *arguments]
        command += [f"--pgdata={self.folder / 'own' / 'data'}"]
        subprocess.run(command, cwd=self.folder / "own", stdout=subprocess.DEVNULL, check=True, **self._user)  # type: ignore[call-overload]


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A server that is up; not below pytest's folders, which are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="persona-assets-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.crash()
