"""The priority of the service's process, which `/cpri` lowers and `/spri` gives back while it runs (rule S).

- Low is a nice value of `LOW`; normal is what the process was started with. Never higher than that.
- Linux keeps a nice value for each thread, so that every thread of the process is set; new ones take their maker's.
- Everybody may lower; to raise again takes root's right (CAP_SYS_NICE) or a limit that allows it (RLIMIT_NICE).
  Without it the process stays low until its next start: that is said, and nothing ends for it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

LOW = 10
"""The nice value of a low priority; 19 is the lowest."""
_CAP_SYS_NICE = 23
_MOST = 20
_EFFECTIVE = re.compile(r"^CapEff:\s*([0-9a-f]+)$", re.MULTILINE)
_LIMIT = re.compile(r"^Max nice priority\s+(\S+)", re.MULTILINE)


class Priority:
    """This process's priority."""

    def __init__(self) -> None:
        """Remember what it was started with."""
        self._normal = os.getpriority(os.PRIO_PROCESS, 0)
        self._low: bool | None = None

    def use(self, *, low: bool) -> str:
        """Take that priority; in words why it could not, else empty. It is tried once for each change."""
        if low is self._low or (not low and self._low is None):
            self._low = low
            return ""
        self._low = low
        wanted = max(LOW, self._normal) if low else self._normal
        try:
            _set_all(wanted)
        except OSError as error:
            return f"The priority stays as it is until the next start: {error.strerror}."
        return ""


def _set_all(wanted: int) -> None:
    """Give every thread of this process a nice value.

    Raises:
        OSError: if it may not be.
    """
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.setpriority(os.PRIO_PROCESS, int(task.name), wanted)


def may_raise(pid: int, wanted: int = 0) -> bool:
    """Whether a process may raise its priority to a nice value; false if that cannot be seen."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        limits = Path(f"/proc/{pid}/limits").read_text(errors="replace")
    except OSError:
        return False
    effective, limit = _EFFECTIVE.search(status), _LIMIT.search(limits)
    if effective and int(effective[1], 16) >> _CAP_SYS_NICE & 1:
        return True
    return bool(limit and (limit[1] == "unlimited" or int(limit[1]) >= _MOST - wanted))
