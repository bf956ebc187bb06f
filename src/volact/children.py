"""Our own commands and services as child processes, for what shows and drives whole systems on one machine.

A command is a process that ends with one JSON value; a service is one that listens until it is stopped by its pid.
Both load nothing from the folder that they are started in (``-P``): it may be another's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from volact import config
from volact.calls import problem_of
from volact.protocol.problems import BrokenData, Refusal, Refused

if TYPE_CHECKING:
    from pathlib import Path

START_LIMIT = 15.0
"""Seconds within which a service must listen."""
_MODULES = {"volact": "volact", "slmgr": "volact.slmgr"}


class Volact:
    """The command ``volact`` in a home of its own; each call is one child process."""

    def __init__(self, home: Path, **environ: str) -> None:
        """Run commands with VOLACT_HOME set to `home` and with `environ` besides."""
        self.home = home
        self.environ = {**os.environ, **environ, config.HOME: str(home)}

    def __call__(self, *words: str, stdin: str = "", program: str = "volact") -> Any:  # noqa: ANN401 - a JSON value
        """Run a command of ``volact`` (or another `program` of ours) and return its JSON value.

        Raises:
            Refused: with the command's own problem, if it did not end with 0.
        """
        done = subprocess.run(
            [sys.executable, "-P", "-m", _MODULES[program], *words, "--json"],
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        value = json.loads(done.stdout) if done.stdout.strip() else None
        if done.returncode:
            said = problem_of(value) if isinstance(value, dict) else None
            raise Refused(
                said or Refusal("internal", f"{program} {' '.join(words)}: {done.stderr.strip()[-500:]}")
            )
        return value

    def serve(self, *words: str, log: Path, address: tuple[str, int]) -> Service:
        """Start a service and wait until it listens."""
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "volact", *words],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        service = Service(process, log)
        service.wait_until_listening(address)
        return service


class Service(NamedTuple):
    """A child process that listens; it is ended by its own pid."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_listening(self, address: tuple[str, int]) -> None:
        """Return when a connection to `address` succeeds.

        Raises:
            BrokenData: if the process ends or takes longer than START_LIMIT.
        """
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection(address, timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise BrokenData(f"The service did not start; see {self.log}.", "internal")

    def stop(self) -> None:
        """Ask the process to end and wait; end it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=START_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
