"""A command on a terminal of its own: what a person would see of it, their own typing included, and what they type."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

_SECONDS = 30.0
"""A command may take so long until it asks, or ends; it takes a second or two."""


class Terminal:
    """Use as a context: it ends the command."""

    def __init__(
        self, *words: str, environ: Mapping[str, str], python: Sequence[str] = ("-m", "volact")
    ) -> None:
        """Begin ``volact WORDS``, or what else Python is told to run."""
        self._end, other = os.openpty()
        try:
            self._process = subprocess.Popen(
                [sys.executable, *python, *words],
                env=environ,
                stdin=other,
                stdout=other,
                stderr=other,
                start_new_session=True,  # a terminal that is nobody's else
            )
        finally:
            os.close(other)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._end)

    def answer(self, question: str, line: str) -> None:
        """Wait until it asks, and type a line."""
        seen = len(self.shown)
        while question not in self.shown[seen:]:
            assert self._hear(), f"it does not ask {question!r}: {self.shown!r}"
        os.write(self._end, f"{line}\n".encode())

    def end(self) -> int:
        """Wait until it ends; its exit code."""
        while self._hear():
            pass
        return self._process.wait(_SECONDS)

    def _hear(self) -> bool:
        until = time.monotonic() + _SECONDS
        ready, _, _ = select.select([self._end], [], [], max(0.0, until - time.monotonic()))
        assert ready, f"nothing more comes: {self.shown!r}"
        try:
            some = os.read(self._end, 4096)
        except OSError:  # Linux says so when the other end is closed
            return False
        self.shown += some.decode()
        return bool(some)
