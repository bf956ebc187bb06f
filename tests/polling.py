"""Waiting for what another process does: looked at again and again, and failed when the time is over."""

import time
from collections.abc import Callable

SECONDS = 20.0


def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Return as soon as it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)
