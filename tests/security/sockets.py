"""What a process and all of its children listen on."""

import ipaddress
import stat
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Listener:
    """A socket that others can reach: an address and port, or the path of a UNIX socket."""

    process: str
    kind: str
    address: str

    @property
    def is_ours_alone(self) -> bool:
        """Loopback; or a UNIX socket whose mode lets no stranger connect (that takes the right to write)."""
        if self.kind == "unix":
            # An abstract one has no file and no mode: everybody may connect.
            path = Path(self.address)
            return not self.address.startswith("@") and not (path.exists() and path.stat().st_mode & stat.S_IWOTH)
        return ipaddress.ip_address(self.address.rpartition(" ")[0]).is_loopback


def tree(pid: int) -> list[psutil.Process]:
    """A process and everything that it started."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def listeners(pid: int) -> set[Listener]:
    """Every TCP socket that listens, UDP socket that is bound to nobody in particular, and UNIX socket with a name."""
    found = set()
    for process in tree(pid):
        try:
            connections, command = process.net_connections("all"), " ".join(process.cmdline()[1:5])
        except psutil.NoSuchProcess:  # it ended meanwhile
            continue
        for each in connections:
            if each.family.name == "AF_UNIX":
                if each.laddr:
                    found.add(Listener(command, "unix", str(each.laddr)))
            elif each.status == psutil.CONN_LISTEN or (
                each.type.name == "SOCK_DGRAM" and each.laddr and not each.raddr
            ):
                found.add(Listener(command, each.type.name, f"{each.laddr.ip} {each.laddr.port}"))
    return found


def reached(pid: int) -> set[str]:
    """Addresses on the other end of connections, by whatever library they were made."""
    found = set()
    for process in tree(pid):
        try:
            found |= {each.raddr.ip for each in process.net_connections("inet") if each.raddr}
        except psutil.NoSuchProcess:
            continue
    return found
