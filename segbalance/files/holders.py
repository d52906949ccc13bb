"""Who holds a lock: one process, told apart from every other, and whether it still runs.

A process is a host, a pid, and when it started: pids are used again. Containers may share the name of a host,
so the kernel's boot and the pid namespace stand beside it.
"""

import dataclasses
import json
import os
import secrets
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ENDED = "ended"  # in place of the start of a process that waits for its parent to take note of its end


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock.

    Args:
        host: name of its host.
        machine: this boot of the host and the pid namespace; empty where neither can be told.
        pid: its number.
        started: when it started, as the kernel counts; empty where that cannot be told.
        since: when it took the lock, as ISO 8601 with the offset of its time zone.
        what: it does there, as in «training».
        token: of this one lock.
    """

    host: str
    machine: str
    pid: int
    started: str
    since: str
    what: str
    token: str

    @classmethod
    def here(cls, what: str) -> "Holder":
        """This process, from now on."""
        return cls(
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            since=datetime.now().astimezone().isoformat(" ", "seconds"),
            what=what,
            token=secrets.token_hex(8),
        )

    @classmethod
    def read(cls, content: bytes) -> "Holder | None":
        """The Holder of a lock file's content; None where it is not (yet) whole."""
        try:
            holder = cls(**json.loads(content))
        except (ValueError, TypeError, RecursionError):
            return None
        values = dataclasses.asdict(holder)
        pid = values.pop("pid")
        plain = isinstance(pid, int) and all(isinstance(value, str) for value in values.values())
        return holder if plain and 0 < pid < 2**31 else None

    def content(self) -> bytes:
        """What a lock file holds, JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2).encode() + b"\n"

    def __str__(self) -> str:
        return f"{self.what} by process {self.pid} on {self.host}, since {self.since}"

    def runs(self) -> bool | None:
        """Whether the process runs; None where that cannot be told from here.

        It can be told of processes of this boot of this host. After a restart only the heartbeat tells: two
        hosts may have one name.
        """
        if os.name != "posix" or (self.host, self.machine) != (socket.gethostname(), _machine()):
            return None  # Windows' os.kill would end the process
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is another user's, and so is there
        started = _started(self.pid)
        return started == self.started if started and self.started else None


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}, pid namespace {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Clock ticks from the boot to the start of a process; ENDED, or empty where that cannot be told."""
    try:
        # Its name, in parentheses, may hold spaces and parentheses.
        values = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # also where the system hides other users' processes
        return ""
    return ENDED if values[0] in (b"Z", b"X") else values[19].decode()
