"""Where the running service of a host listens: a note beside its settings, for the commands that tell (K16).

The service writes it when it takes requests, when it has moved, and when it has let a port go at last; it removes it
at its end. A note whose process is gone, killed say, is none, and a damaged one neither.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from volact.files import PRIVATE, flush_folder, write_durably

if TYPE_CHECKING:
    from collections.abc import Collection

_NOTE = "serving.json"
_MAX_PORT = 65535
_AFTER_NAME = 19
"""Which word behind the program's name in /proc/PID/stat says when it started."""


class Listening(NamedTuple):
    """A service that runs: the address and port that it listens on, and its process.

    Attributes:
        leaving: the ports that it has moved away from and that are its own for some seconds more.
    """

    address: str
    port: int
    pid: int
    leaving: frozenset[int] = frozenset()


def note(folder: Path, address: str, port: int, leaving: Collection[int] = ()) -> None:
    """Write down that this process listens there, and on the ports that it is leaving; since when, it keeps.

    Raises:
        OSError: if it cannot be written.
    """
    pid = os.getpid()
    members = {
        "address": address,
        "port": port,
        "pid": pid,
        "started": _started(pid),
        "leaving": sorted(leaving),
        "since": _since_before(folder, pid),
    }
    write_durably(folder / _NOTE, json.dumps(members).encode(), PRIVATE)


def read(folder: Path) -> Listening | None:
    """Where the host's service listens now, or None if none runs."""
    try:
        members = json.loads((folder / _NOTE).read_bytes())
        address, pid, started = members["address"], members["pid"], members["started"]
        ports = [members["port"], *members["leaving"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(address, str) or not _whole([pid, started, *ports]) or max(ports) > _MAX_PORT:
        return None
    # A process id is given out again, by a container to its first process each time.
    return Listening(address, ports[0], pid, frozenset(ports[1:])) if started == _started(pid) else None


def _whole(numbers: list[object]) -> bool:
    return all(type(one) is int and one > 0 for one in numbers)


def since(folder: Path) -> int:
    """Since when the service that runs has listened, on whatever port, seconds UTC; 0 if none runs or it is not known."""
    found = read(folder)
    return _since(folder) if found else 0


def _since_before(folder: Path, pid: int) -> int:
    """What an earlier note of the same process says; 0 if this is its first one, whose own time says it then."""
    found = read(folder)
    return _since(folder) if found is not None and found.pid == pid else 0


def _since(folder: Path) -> int:
    try:
        noted = json.loads((folder / _NOTE).read_bytes()).get("since", 0)
        return noted if type(noted) is int and noted > 0 else int((folder / _NOTE).stat().st_mtime)
    except (OSError, ValueError, AttributeError, RecursionError):
        return 0


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
