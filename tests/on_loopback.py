"""Network namespace with a loopback interface only, so that servers listening on all interfaces stay unreachable."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from functools import cache

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
UNSHARE = ["unshare", "--map-root-user", "--net"]


@cache
def why_not() -> str | None:
    """Return why network namespaces are not available on this machine; None if they are."""
    if shutil.which("unshare") is None:
        return "`unshare` is not installed"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"`unshare` cannot create a network namespace: {tried.stderr.strip()}"


def bring_up() -> None:
    """Bring up the loopback interface in this process's network namespace.

    Raises:
        RuntimeError: the namespace has other interfaces, so it is not an isolated one.
    """
    names = [name for _, name in socket.if_nameindex() if not name.startswith(("tunl", "sit", "ip6", "gre", "erspan"))]
    if names != ["lo"]:
        raise RuntimeError(f"network interfaces: found {names}; expected only lo; start with `{' '.join(UNSHARE)}`")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, _GET_FLAGS, request))[1]
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14s", b"lo", flags | _UP, b""))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
