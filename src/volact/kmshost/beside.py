"""Work that goes on beside a service, each in a thread of its own, so that whoever is slow delays no answer and no stop.

What fails is said once, until it succeeds or fails otherwise, and is tried again at the next look.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import structlog

from volact import http
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger()


class Failures:
    """What has failed, by the name of the work, so that it is said once."""

    def __init__(self) -> None:
        """Nothing has."""
        self._said: dict[str, str] = {}

    def say(self, work: str, error: Exception) -> None:
        """Log why work did not succeed, unless that was said the last time, too."""
        said = f"{type(error).__name__}: {error}"
        if self._said.get(work) == said:
            return
        self._said[work] = said
        with contextlib.suppress(OSError, ValueError):  # standard error is full or closed: the work goes on
            if isinstance(error, VolactError):
                _log.error("look", work=work, code=error.refusal.code, detail=error.refusal.detail)
            else:
                http.refusal_of(error)

    def forget(self, work: str) -> None:
        """It has succeeded."""
        self._said.pop(work, None)


class Beside:
    """Work that is looked after every few seconds from `start` to `stop`."""

    def __init__(
        self, name: str, seconds: float, work: Callable[[], None], failures: Failures | None = None
    ) -> None:
        """Do `work` every so many `seconds`; what fails is said by `failures`."""
        self._name, self._seconds, self._work = name, seconds, work
        self._failures = failures or Failures()
        self._stopping = threading.Event()
        # Nobody waits for it at the end: what it was at is not done, or is on disk.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    def wait(self, seconds: float) -> None:
        """Let so many seconds go by in the midst of the work, but none once it is to stop."""
        self._stopping.wait(seconds)

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look must come
                self._failures.say(self._name, error)
            else:
                self._failures.forget(self._name)
