"""A real host and real clients live through 211 days without a restart, their clocks moved by libfaketime (K6, K7).

Two machines renew all the time; a third is cut off after its first lease: it warns from day 150, leaves Licensed at
day 180 and is in Notification at day 210, to the second, and is Licensed again as soon as it reaches the host.
"""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from polling import until
from volact import cli, slmgr
from volact.children import free_port
from world import PRODUCT, facts

pytestmark = pytest.mark.sockets

DAY = 86400
PATIENCE = 60
PRODUCT_FILE = f"""\
id = "{PRODUCT}"
name = "Example CAD"
edition = "client"
[policy]
thresholds = [{{count = "machines", minimum = 2}}]
"""


def _library() -> str | None:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    return str(found[0]) if found else None


@pytest.fixture
def library() -> str:
    found = _library()
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("libfaketime is missing: apt install faketime")
        pytest.skip("libfaketime is missing: apt install faketime")
    return found


class Moved:
    """A home whose services all see the clock of one file.

    They are processes of their own under libfaketime. Commands run in this process and see the same file's clock as a
    laboratory's: none of them waits, and a process for each would be most of the time that this test takes.
    """

    def __init__(self, home: Path, timestamps: Path, library: str, facts_file: Path | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        bare = {name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")}
        self._home = {**bare, "VOLACT_HOME": str(home)}
        if facts_file:
            self._home["VOLACT_MACHINE_FACTS"] = str(facts_file)
        self._timestamps = timestamps
        self.environ = {
            **self._home,
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(timestamps),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def __call__(self, *words: str, main: Callable[[list[str]], int] = cli.main) -> Any:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in (*self._home.items(), ("VOLACT_LAB_CLOCK", str(self._timestamps))):
                patch.setenv(name, value)
            code = main([*words, "--json"])
        assert code == 0, (words, out.getvalue(), err.getvalue())
        return json.loads(out.getvalue())

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A service of this home; it must live to the end of the block."""
        with (self.home / "service.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "volact", *words],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield process
            assert process.poll() is None, (self.home / "service.log").read_text()
        finally:
            process.terminate()
            process.wait(PATIENCE)

    def product(self) -> dict[str, Any]:
        (row,) = self("client", "status")["products"]
        assert isinstance(row, dict)
        return row


class Calendar:
    """The file that moves everybody's clock."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.began = int(time.time())
        self.to(0)

    def to(self, seconds: int) -> None:
        aside = self.file.with_suffix(".next")
        aside.write_text(f"+{seconds}\n")
        aside.replace(self.file)


def _seconds(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp())


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_211_days(tmp_path: Path, library: str) -> None:
    calendar = Calendar(tmp_path / "clock")
    publisher = Moved(tmp_path / "publisher", calendar.file, library)
    pub = publisher("authority", "init", "--lab")["root"]
    toml, product_file = tmp_path / "product.toml", tmp_path / "cad.volact-product"
    toml.write_text(PRODUCT_FILE)
    publisher("authority", "product", "add", str(toml))
    publisher("authority", "product", "export", PRODUCT, "-o", str(product_file))
    publisher("authority", "customer", "add", "Contoso")
    csv = tmp_path / "host.csv"
    issue = ("--product", PRODUCT, "--customer", "Contoso", "--kind", "kms-host", "--csv", str(csv))
    publisher("authority", "key", "issue", *issue)
    key = csv.read_text().splitlines()[1].split(",")
    (host_key,) = [word for word in key if len(word) == 29]

    # By file: such a delegation lasts 400 days.
    host = Moved(tmp_path / "host", calendar.file, library)
    host("kmshost", "init", f"--root={pub}", str(product_file))
    (tmp_path / "host.key").write_text(host_key)
    host("kmshost", "install-key", f"@{tmp_path / 'host.key'}")
    question, answer = tmp_path / "question.json", tmp_path / "answer.json"
    host("kmshost", "activate", "--request-file", str(question))
    publisher("authority", "answer", str(question), "-o", str(answer))
    host("kmshost", "activate", "--response-file", str(answer))

    port, dead = free_port(), free_port()
    machines = []
    for number, name in enumerate(("one", "two", "cut-off"), start=900_000):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(facts(number)))
        machine = Moved(tmp_path / name, calendar.file, library, file)
        machine("client", "install", str(product_file), f"--root={pub}")
        machine("/skms", f"127.0.0.1:{port}", main=slmgr.main)
        machines.append(machine)
    one, two, cut_off = machines

    with ExitStack() as running:
        running.enter_context(host.running("kmshost", "serve", "--listen", f"127.0.0.1:{port}"))
        until(lambda: _listens(port), PATIENCE)
        for machine in machines:
            running.enter_context(machine.running("client", "run"))
        # The first to call is refused and tries again after two hours (K2, K6).
        until(lambda: all(machine.product()["next_try"] for machine in machines), PATIENCE)
        assert sorted(machine.product()["state"] for machine in machines) == [1, 1, 2]
        calendar.to(3 * 3600)
        until(lambda: all(machine.product()["state"] == 1 for machine in machines), PATIENCE)
        granted = _seconds(cut_off.product()["granted"])
        cut_off("/skms", f"127.0.0.1:{dead}", main=slmgr.main)

        def at(day: int, second: int = 0) -> dict[str, Any]:
            """Move everybody to a second of the cut-off machine's lease; the two others renew meanwhile."""
            moment = granted + day * DAY + second
            calendar.to(moment - int(time.time()))
            renewed_after = moment - 8 * DAY
            until(lambda: all(_seconds(m.product()["granted"]) > renewed_after for m in (one, two)), PATIENCE)
            return cut_off.product()

        # Never 30 days at once: the two would be gone from the count before they call again (K4).
        for day in (28, 56, 84, 112, 140, 167):
            assert at(day)["state"] == 1
        for day, state in ((179, 1), (180, 3), (207, 3), (209, 3), (210, 5), (211, 5)):
            found = at(day, 60)
            assert found["state"] == state, (day, found)
            assert one.product()["state"] == two.product()["state"] == 1
        # Half a minute before an end and after it: real time goes on meanwhile.
        cut_off("/skms", f"127.0.0.1:{port}", main=slmgr.main)
        until(lambda: cut_off.product()["state"] == 1, PATIENCE)
