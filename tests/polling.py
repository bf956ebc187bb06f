"""Waiting for what another process does: looked at again and again, and failed when the time is over."""

import time
from collections.abc import Callable
from typing import Any

SECONDS = 30.0


def until(found: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What it answers, as soon as that is something true."""
    end = time.monotonic() + seconds
    while not (what := found()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)
    return what
