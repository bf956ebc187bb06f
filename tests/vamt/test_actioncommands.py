"""V5, M8: the commands of actions, queue and schedules, called rightly and wrongly; no machine is there."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from polling import until
from programs import HEARS_CTRL_C
from vamt.collecting.standins import PRIVATE
from vamt.test_cli import home, ready, run, tell, template
from world import new_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, Any, str]]

__all__ = ["home", "ready", "run", "tell", "template"]  # fixtures
pytestmark = pytest.mark.sockets
KEY = new_key()
ACTIONS = (
    ("install-key",),
    ("remove-key",),
    ("activate", "--online"),
    ("activate", "--kms"),
    ("set-host", "--host", "kms1"),
    ("set-host", "--clear"),
    ("deactivate",),
    ("refresh-status",),
)


@pytest.fixture
def known(ready: Run, tmp_path: Path) -> Run:
    """A VAMT that knows one machine, where nobody listens, and has a login."""
    key = tmp_path / "key"
    key.write_text(PRIVATE)
    key.chmod(0o600)
    assert ready("machine", "add", "pc1", "--address", "127.0.0.1", "--port", "1")[0] == 0
    assert ready("login", "set", "--user", "vamt", "--key-file", str(key))[0] == 0
    return ready


@pytest.mark.parametrize("words", ACTIONS, ids=" ".join)
def test_every_action_refuses_what_is_no_selection(ready: Run, words: tuple[str, ...]) -> None:
    for dry in ((), ("--dry-run",)):
        assert ready(*words, *dry)[:2][1]["code"] == "selection-empty"
        code, said, _ = ready(*words, "nobody", *dry)
        assert (code, said["code"]) == (1, "machine-unknown")
        assert ready(*words, "--all", "--group", "x", *dry)[0] == 2
    for bounds in (("--at-once", "0"), ("--at-once", "2001"), ("--limit", "0"), ("--limit", "3601")):
        assert ready(*words, "--all", *bounds)[0] == 2
        assert ready(*words, "--all", "--dry-run", *bounds)[0] == 2


def test_an_option_that_there_is_not_is_said_to_be_none(ready: Run) -> None:
    """Ids may begin with hyphens, so names may; but no name of another length begins with two."""
    for words in (("--dryrun",), ("pc1", "--no-such"), ("--all", "--dryrun")):
        code, said, _ = ready("refresh-status", *words)
        assert (code, said["code"]) == (2, "usage")
        assert words[-1] in said["detail"]
    assert ready("refresh-status", "--" + 20 * "a")[1]["code"] == "machine-unknown"
    for length in (21, 23):
        assert ready("refresh-status", "--" + (length - 2) * "a")[1]["code"] == "usage"


def test_before_anything_was_done_there_is_no_newest_action(ready: Run) -> None:
    assert ready("action", "show")[1]["detail"] == "Nothing was done yet."
    assert "could go on" in ready("action", "resume")[1]["detail"]


@pytest.mark.parametrize(
    "words",
    [
        ("activate", "--all"),
        ("activate", "--all", "--online", "--kms"),
        ("activate", "--all", "--proxy", "--kms"),
        ("activate", "--all", "--proxy", "--queue"),
        ("set-host", "--all"),
        ("set-host", "--all", "--clear", "--host", "kms1"),
        ("set-host", "--all", "--host", "https://kms1"),
        ("set-host", "--all", "--domain", "a b"),
        ("install-key", "--all", "--key", KEY.text()),
        ("install-key", "--all", "--key", KEY.symbols),
        ("queue", "cancel"),
        ("queue", "cancel", "x", "--all"),
        ("schedule", "add", "n", "collect", "--all", "--every", "1w"),
        ("schedule", "add", "n", "collect", "--all", "--every", "14m"),
        ("schedule", "add", "n", "collect", "--all", "--every", "1d", "--at", "25:00"),
        ("schedule", "add", "n", "collect", "--all", "--every", "1d", "--host", "kms1"),
        ("schedule", "add", "n", "collect", "--all", "--every", "1d", "--queue"),
        ("schedule", "add", "n", "dance", "--all", "--every", "1d"),
        ("schedule", "add", "n", "install-key", "--all", "--every", "1d", "--key", KEY.text()),
        ("schedule", "add", "n", "collect", "--all"),
    ],
)
def test_wrong_calls(known: Run, words: tuple[str, ...]) -> None:
    code, said, err = known(*words)
    assert (code, said["code"]) == (2, "usage")
    assert KEY.text()[:11] not in str(said) + err
    assert KEY.symbols[:10] not in str(said) + err
    assert known("action", "list")[1] == []
    assert KEY.text()[:11] not in str(known("log")[1])


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("action", "show"), "action-unknown"),
        (("action", "show", "-nobody"), "action-unknown"),
        (("action", "resume"), "action-unknown"),
        (("action", "resume", "nobody"), "action-unknown"),
        (("activate", "--proxy", "--all"), "list-empty"),
        (("queue", "cancel", "nobody"), "action-not-queued"),
        (("queue", "cancel", "--all"), "action-not-queued"),
        (("schedule", "remove", "nobody"), "schedule-unknown"),
        (("install-key", "--all", "--key", "MZZZZ"), "key-not-held"),
        (("install-key", "--all", "--product", "com.example.no"), "publisher-unknown"),
    ],
)
def test_what_is_not_there(known: Run, words: tuple[str, ...], wanted: str) -> None:
    code, said, _ = known(*words)
    assert (code, said["code"]) == (1, wanted)


def test_a_machine_that_is_off(known: Run, tell: Callable[..., str]) -> None:
    """Exit 3 where nobody was reached, 0 where it waits; each row says why and what to do next, to people too."""
    dry = known("refresh-status", "--all", "--dry-run")
    assert (dry[0], [one["outcome"] for one in dry[1]["rows"]]) == (0, ["would"])
    code, said, _ = known("refresh-status", "--all")
    assert code == 3
    (row,) = said["rows"]
    assert (row["machine"], row["outcome"], row["code"]) == ("pc1", "failed", "unreachable-port")
    assert row["detail"].startswith("The machine does not take a connection")
    assert "volact vamt prepare" in row["next"]
    assert known("action", "resume")[0] == 3
    shown = known("action", "show", said["id"])[1]
    assert shown["rows"][0]["tries"] == 2
    code, said, _ = known("set-host", "pc1", "--host", "kms1", "--queue")
    assert (code, said["counts"]) == (0, {"queued": 1})
    assert said["rows"][0]["due"].endswith("Z")
    assert "volact vamt queue run" in tell("refresh-status", "pc1", "--queue")
    assert known("install-key", "pc1")[1]["rows"][0]["code"] == "machine-not-collected"
    assert "unreachable-port" in tell("queue", "list")
    assert "Nothing is due." in tell("queue", "run")
    assert "queued" in tell("queue", "run", "--all")
    told = tell("action", "list")
    assert "set-host" in told
    assert "1 queued" in told
    assert tell("queue", "cancel", "--all") == "2 wait no longer\n"
    assert tell("queue", "list") == "Nothing waits.\n"


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(known: Run, home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        known("machine", "add", "pc1", "--address", "127.0.0.1", "--port", str(silent.getsockname()[1]))
        stopped = subprocess.Popen(
            [*HEARS_CTRL_C, sys.executable, "-m", "volact", "vamt", "refresh-status", "--all"],
            stderr=subprocess.PIPE,
            text=True,
        )

        def states() -> list[str]:
            with closing(sqlite3.connect(home / "vamt" / "vamt.db")) as database:
                return [state for (state,) in database.execute("SELECT state FROM action_row")]

        until(lambda: states() == ["running"])
        stopped.send_signal(signal.SIGINT)
        said = stopped.communicate(timeout=60)[1]
    (action,) = known("action", "list")[1]
    assert (stopped.returncode, action["state"], states()) == (130, "stopped", ["waiting"])
    assert f"volact vamt action resume {action['id']}" in said
    assert "Traceback" not in said


def test_schedules(known: Run, tell: Callable[..., str]) -> None:
    assert "There is no schedule" in tell("schedule", "list")
    _, made, _ = known("schedule", "add", "night", "collect", "--all", "--every", "1d", "--at", "02:00")
    assert (made["what"], made["every"], made["selection"], made["last"]) == (
        "collect",
        86400,
        {"all": True},
        None,
    )
    assert made["next"].endswith("T02:00:00Z")
    words = ("set-host", "pc1", "--every", "15m", "--host", "kms1", "--queue")
    assert "volact vamt serve" in tell("schedule", "add", "host", *words)
    assert known("schedule", "add", "host", *words)[1]["code"] == "already-exists"
    assert [one["name"] for one in known("schedule", "list")[1]] == ["host", "night"]
    assert "never" in tell("schedule", "list")
    assert tell("schedule", "run") == "Nothing is due.\n"
    assert tell("schedule", "remove", "host") == "removed host\n"
    assert len(known("schedule", "list")[1]) == 1
