"""`/cpri` and `/spri` change the priority of the process that runs (rule S); its nice values are read from the system."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import inprocess
from authority_process import Home as Publisher
from kmshost_process import Home, Host
from polling import until

LOW = 10
_OWN = os.getpriority(os.PRIO_PROCESS, 0)


def nices(pid: int) -> set[int]:
    """The nice values of all threads of a process: field 19 of their `stat`."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int((task / "stat").read_text().rpartition(")")[2].split()[16]) for task in tasks}


def may_raise() -> bool:
    """Whether this user may raise a priority again: tried."""
    words = "import os; os.setpriority(0, 0, os.getpriority(0, 0) + 1); os.setpriority(0, 0, os.getpriority(0, 0) - 1)"
    return not subprocess.run([sys.executable, "-c", words], capture_output=True, check=False).returncode


@pytest.fixture
def home(tmp_path: Path) -> Home:
    publisher = Publisher(tmp_path / "publisher")
    publisher.folder.mkdir()
    publisher.set_up()
    home = Home(tmp_path / "host", publisher, ops_listen="")
    home.init()
    return home


def slmgr(home: Home, switch: str) -> tuple[Any, str]:
    done = inprocess.run("slmgr", switch, "--json", environ=home.environ)
    assert done.code == 0, done
    return json.loads(done.out), done.err


def shown(home: Home, switch: str) -> list[str]:
    out = inprocess.run("slmgr", switch, environ=home.environ).out
    return [line for line in out.splitlines() if line.startswith("KMS priority")]


@pytest.mark.sockets
def test_a_running_service_takes_a_low_priority_and_gives_it_back(home: Home) -> None:
    assert shown(home, "/dli") == shown(home, "/dlv") == ["KMS priority: Normal"]
    with Host(home) as host:
        pid = host.process.pid
        assert nices(pid) == {_OWN}
        said, _ = slmgr(home, "/cpri")
        assert (said["name"], said["value"]) == ("low_priority", True)
        until(lambda: nices(pid) == {max(LOW, _OWN)})
        assert shown(home, "/dli") == shown(home, "/dlv") == ["KMS priority: Low"]
        _, warning = slmgr(home, "/spri")
        if may_raise():
            assert warning == ""
            until(lambda: nices(pid) == {_OWN})
        else:
            assert "at its next start" in warning
        assert shown(home, "/dli") == ["KMS priority: Normal"]
        slmgr(home, "/cpri")
    with Host(home) as host:  # a start takes what is set
        until(lambda: nices(host.process.pid) == {max(LOW, _OWN)})


_TWICE = """
import os
from volact.kmshost.priority import Priority, may_raise
one = Priority()
print([one.use(low=low) for low in (False, True, True, False, False)], os.getpriority(0, 0), may_raise(os.getpid()))
"""


@pytest.mark.parametrize("started", [0, 15])
def test_a_user_who_may_not_raise_it_again_stays_low_and_is_told_once(started: int) -> None:
    words = [sys.executable, "-c", _TWICE]
    if os.geteuid() == 0:
        words = ["setpriv", "--inh-caps=-sys_nice", "--bounding-set=-sys_nice", *words]
    done = subprocess.run(
        ["nice", "-n", str(started), *words], capture_output=True, text=True, check=True, timeout=60
    )
    began = min(19, _OWN + started)
    told = "" if began >= LOW else "The priority stays as it is until the next start: Permission denied."
    assert done.stdout.strip() == f"{['', '', '', told, '']} {max(LOW, began)} False"
