"""Who may read and change what is written: what the umask says, and never everybody."""

import stat
from pathlib import Path

from tests.security.conftest import Running, Served


def modes(folder: Path) -> dict[Path, int]:
    """Permission bits of everything below a folder but links, whose own mean nothing."""
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*") if not path.is_symlink()}


def test_where_the_umask_allows_everything_not_everybody_may_write(served: Served) -> None:
    """Folders, databases, and the sockets over which code is loaded and runs are started."""
    written = modes(served.home) | modes(served.temporary)
    sockets = [path for path in written if path.is_socket()]
    assert sockets
    assert len(written) > 5
    assert {path: oct(mode) for path, mode in written.items() if mode & stat.S_IWOTH} == {}
    assert stat.S_IMODE(served.home.stat().st_mode) == 0o775  # no stricter than the umask and that


def test_where_the_umask_allows_nobody_else_nobody_else_may_read(ran: Running) -> None:
    """Artefacts, records, databases, logs: nothing opens itself to others."""
    written = modes(ran.home)
    assert any(path.suffix == ".safetensors" for path in written)
    assert any(path.suffix == ".parquet" for path in written)
    assert {path: oct(mode) for path, mode in written.items() if mode & 0o077} == {}
