"""The one source of time, injected everywhere (DESIGN section 4); a laboratory can move it (PROTOCOL section 9).

Times are integer seconds UTC. Nobody sleeps towards a moment: long waits read this clock again on a short tick.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

LAB_CLOCK = "VOLACT_LAB_CLOCK"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


LAST = 253_402_300_799
"""The last second of the year 9999: no later time can be shown."""


class ClockInvalid(ValueError):
    """A laboratory's clock file holds no time; the message names the file."""


class Clock(Protocol):
    """Says what time it is."""

    def now(self) -> int:
        """Wall time, seconds UTC."""

    def running(self) -> int:
        """Seconds since this boot, suspend included."""

    def boot(self) -> str:
        """Which boot this is: another text after each start of the machine."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> int:
        """Wall time, seconds UTC."""
        return int(time.time())

    def running(self) -> int:
        """CLOCK_BOOTTIME: seconds since this boot, suspend included."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME))

    def boot(self) -> str:
        """The kernel's boot id."""
        with open(_BOOT_ID, encoding="utf-8") as file:
            return file.read().strip()


class LabClock(SystemClock):
    """The machine's clock moved by a file, which holds a time (seconds UTC or RFC 3339) or an offset (``+180d``).

    The file is read at every look at the clock, so replacing it (by rename) moves running programs. Running
    time since boot stays the machine's own: only the wall clock is moved.
    """

    def __init__(self, path: str) -> None:
        """Be moved by the file at `path`."""
        self._path = path

    def now(self) -> int:
        """Wall time as the file moves it.

        Raises:
            ClockInvalid: if the file cannot be read, or holds no time.
        """
        try:
            with open(self._path, encoding="utf-8") as file:
                return moved(file.read().strip(), int(time.time()))
        except (OSError, ValueError, OverflowError):
            raise ClockInvalid(
                f"{LAB_CLOCK}: {self._path} holds no time: +180d, 2027-01-31T12:00:00Z or seconds."
            ) from None


def moved(text: str, wall: int) -> int:
    """The time that a lab clock's file content means when the machine's clock says `wall`.

    Raises:
        ValueError: if it is neither a time nor an offset, or lies beyond the years that can be shown.
    """
    if text[:1] in ("+", "-"):
        found = wall + int(text[:-1]) * _UNITS[text[-1:]] if text[-1:] in _UNITS else wall + int(text)
    elif text.isdigit():
        found = int(text)
    else:
        from datetime import datetime  # noqa: PLC0415 - only a laboratory pays for this import

        found = int(datetime.fromisoformat(text).timestamp())
    if not 0 <= found <= LAST:
        raise ValueError("beyond the years that can be shown")
    return found


def clock_for(environ: Mapping[str, str], *, lab: bool) -> Clock:
    """The clock of a publisher's programs: a laboratory's may be moved by VOLACT_LAB_CLOCK, no other can."""
    path = environ.get(LAB_CLOCK)
    return LabClock(path) if lab and path else SystemClock()
