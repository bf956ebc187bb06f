"""The client's event log: ``events.jsonl``, one JSON object a line (rule E).

Fields are codes, numbers and ids; nothing that a server or a person wrote gets in (T36). The file is bounded:
when it is full, its older half goes.
"""

from __future__ import annotations

import heapq
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.client.folder import CLIENT
from volact.clock import LAST
from volact.files import write_durably
from volact.protocol.problems import PROBLEMS, BrokenData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE = "events.jsonl"
MOST_BYTES = 512 * 1024
SENT, ANSWERED = 12288, 12289
DONE, OTHER = "ok", "other"


class Event(NamedTuple):
    """One event of a client.

    Attributes:
        time: the time that counts here, seconds UTC.
        event: its number, as administrators of volume activation know it.
        result: ``ok`` or the code of the refusal; empty for what was only sent.
        publisher: the publisher's id.
        product: the product's id.
        cmid: the machine's id.
        host: the server that was asked, host:port.
        required: the count that the server requires; None where nothing is counted.
        current: the count that it has.
        client_time: what the machine's clock says, seconds UTC.
        virtual: whether the machine is virtual.
        state: the state at that moment.
        minutes: minutes to the end of that state; 0 if it has none.
        renewal: renewal interval, seconds.
        retry: retry interval, seconds.
    """

    time: int
    event: int
    result: str
    publisher: str
    product: str
    cmid: str
    host: str
    required: int | None
    current: int | None
    client_time: int
    virtual: bool
    state: int
    minutes: int
    renewal: int
    retry: int


def known(code: str) -> str:
    """A code as it may be logged: one of our list, or ``other``."""
    return code if code in PROBLEMS or code == DONE else OTHER


def append(home: str, event: Event) -> None:
    """Add an event, durably."""
    path = Path(home, CLIENT, FILE)
    line = json.dumps(event._asdict(), ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"  # of a file that was cut only the last line is lost
    if len(before) + len(line) > MOST_BYTES:
        before = before[before.index(b"\n", MOST_BYTES // 2) + 1 :]
    write_durably(path, before + line)


def read(
    homes: Sequence[str], since: int = 0, limit: int | None = None, **wanted: str | int | None
) -> list[dict[str, Any]]:
    """The events from `since` on, as they happened; with a limit the newest ones. Damaged lines are left out.

    `wanted` are what fields must hold (``event``, ``result``, ``cmid``, ``product``); None is anything.
    A log's own order stays, for time may step back (a signed time puts a clock right); several logs are merged by
    time.

    Raises:
        BrokenData: if a log is there and cannot be read.
    """
    fields = {name: value for name, value in wanted.items() if value is not None}

    def fits(event: dict[str, Any]) -> bool:
        return event["time"] >= since and all(event[name] == value for name, value in fields.items())

    logs = [[event for event in _events(home) if fits(event)] for home in homes]
    found = list(heapq.merge(*logs, key=lambda event: int(event["time"])))
    return found[-limit:] if limit else found


def _events(home: str) -> Iterator[dict[str, Any]]:
    for line in _lines(Path(home, CLIENT, FILE)):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if _is_whole(event):
            yield event


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BrokenData(f"{path}: {error.strerror}.", "not-readable") from None


def _is_whole(event: object) -> bool:
    return (
        isinstance(event, dict)
        and all(name in event for name in Event._fields)
        and all(type(event[name]) is int and 0 <= event[name] <= LAST for name in ("time", "client_time"))
    )
