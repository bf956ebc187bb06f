"""Where the running service of a host listens: a note beside its settings, for the commands that tell (K16).

The service writes it when it takes requests and when it has moved, and removes it at its end. A note whose process is
gone, killed say, is none.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import NamedTuple

from volact.files import PRIVATE, flush_folder, write_durably

_NOTE = "serving.json"
_AFTER_NAME = 19
"""Which word behind the program's name in /proc/PID/stat says when it started."""


class Listening(NamedTuple):
    """A service that runs: the address and port that it listens on, and its process."""

    address: str
    port: int
    pid: int


def note(folder: Path, address: str, port: int) -> None:
    """Write down that this process listens there.

    Raises:
        OSError: if it cannot be written.
    """
    pid = os.getpid()
    members = {"address": address, "port": port, "pid": pid, "started": _started(pid)}
    write_durably(folder / _NOTE, json.dumps(members).encode(), PRIVATE)


def read(folder: Path) -> Listening | None:
    """Where the host's service listens now, or None if none runs."""
    try:
        members = json.loads((folder / _NOTE).read_bytes())
        found = Listening(str(members["address"]), int(members["port"]), int(members["pid"]))
        started = members["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # A process id is given out again, by a container to its first process each time.
    return found if started is not None and started == _started(found.pid) else None


def forget(folder: Path) -> None:
    """Remove what this process wrote; another service of the same host may have written since."""
    found = read(folder)
    if found is None or found.pid != os.getpid():
        return
    with contextlib.suppress(OSError):
        (folder / _NOTE).unlink(missing_ok=True)
        flush_folder(folder)


def _started(pid: int) -> int | None:
    """When a process started, in ticks since the system did; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[_AFTER_NAME])
    except (OSError, ValueError, IndexError):
        return None
