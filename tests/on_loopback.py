"""A network namespace with loopback and nothing else: what listens on every interface listens on none of the host."""

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
    """Why there is no such namespace to be had here; None where there is."""
    if shutil.which("unshare") is None:
        return "there is no unshare"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"no network namespace of one's own: {tried.stderr.strip()}"


def bring_up() -> None:
    """Brings loopback up in the namespace of this process, which must be such a one.

    Raises:
        RuntimeError: it has other interfaces too.
    """
    names = [name for _, name in socket.if_nameindex() if not name.startswith(("tunl", "sit", "ip6", "gre", "erspan"))]
    if names != ["lo"]:
        raise RuntimeError(f"found the interfaces {names}; expected loopback alone, as {' '.join(UNSHARE)} gives it")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(control, _GET_FLAGS, request))[1]
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH14s", b"lo", flags | _UP, b""))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
