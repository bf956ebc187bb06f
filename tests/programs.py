"""Real servers that tests start as processes of their own, in the foreground, each with a log in its folder (RIGS.md)."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import pytest

LOOPBACK = "127.0.0.1"
TIMEOUT = 20
"""Seconds that a start or a stop may take on a busy machine; it takes a tenth."""
HEARS_CTRL_C = ("env", "--default-signal=INT")
"""Before a command that is to be stopped so: what a shell starts in the background ignores SIGINT, and so do its children."""


def installed(program: str, package: str) -> str:
    """Where a program is; without it the test is skipped, and fails in CI (RIGS.md)."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        reason = f"{program} is not installed (Debian: {package})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of loopback."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), TIMEOUT):
        return True
    return False


class Program:
    """A server in `folder`; who uses it as a context enters it by its own `__enter__`, and closes it."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def run(self, words: Sequence[str], answers: Callable[[], bool]) -> None:
        """Start it by these words, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        until = time.monotonic() + TIMEOUT
        while not answers():
            if self._process.poll() is not None or time.monotonic() > until:
                said = self.log()
                self.stop()
                raise RuntimeError(f"{words[0]} does not start:\n{said}")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it; its port refuses then."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(TIMEOUT)
        self._process = None

    def close(self) -> None:
        """End it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
