"""V5, V4, M8, F40, F45: actions on real machines: sshd, the real client on each, a real authority; VAMT's commands."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import kmshost_process
from authority_process import Home, reachable
from polling import until
from vamt.sshmachines import SshMachine, known, machines
from vamt.test_keycommands import Place
from world import PRODUCT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from volact.protocol.keys import ProductKey

pytestmark = pytest.mark.sockets
POLICY = '[policy]\nthresholds = [{ count = "machines", minimum = 1 }]\n'


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with reachable(tmp_path_factory.mktemp("authority"), POLICY) as home:
        yield home


@pytest.fixture
def place(tmp_path: Path, authority: Home) -> Place:
    made = Place(tmp_path, authority)
    made.run("seal")
    return made


def keep(place: Place, key: ProductKey) -> None:
    """Let VAMT keep a key, and ask what is left of it."""
    place.run("key", "add", "-", "--product", PRODUCT, stdin=key.text())
    place.run("key", "refresh", key.label)


def outcomes(told: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    """Each machine's outcome and code."""
    return {one["machine"]: (one["outcome"], one["code"]) for one in told["rows"]}


def counted(authority: Home, key: ProductKey) -> tuple[int, int]:
    """How many activations of a key the authority has counted, and how many are left."""
    shown = authority.run("key", "show", key.label)
    return shown["activated"], shown["remaining"]


def connections(found: list[SshMachine]) -> int:
    return sum(one.sshd.log().count("Connection from") for one in found)


@contextmanager
def estate(folder: Path, place: Place, count: int) -> Iterator[list[SshMachine]]:
    """Machines that have told what is on them; then one goes off, one is set up anew, one lets nobody in."""
    folder.mkdir()
    with machines(folder, place.home, count) as found:
        known(place, found)
        assert place.run("collect", "--all")["answered"] == count
        before = found[1].sshd.host_key
        found[0].sshd.go_off()
        found[1].sshd.new_host_key()
        place.run("machine", "add", "pc01", "--address", "127.0.0.1", "--port", str(found[1].sshd.port))
        place.run("machine", "trust", "pc01", "--host-key", before)
        found[2].sshd.let_in(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZpbGxlciBvZiBhIGtleSBvZiBub2JvZHkgISEhISEh"
        )
        yield found


UNREACHED = {
    "pc00": ("failed", "unreachable-port"),
    "pc01": ("failed", "host-key-changed"),
    "pc02": ("failed", "credential-refused"),
}


@pytest.mark.parametrize(
    ("good", "more"), [(2, 1), pytest.param(6, 3, marks=pytest.mark.slow)], ids=["6 machines", "12 machines"]
)
def test_a_batch_over_what_is_left_of_a_key_goes_on_after_a_top_up(
    place: Place, authority: Home, tmp_path: Path, good: int, more: int
) -> None:
    """As many as are left are activated, the rest is told so, and goes on after a top-up: nothing is counted twice."""
    key = authority.key(activations=3 + good)
    keep(place, key)
    names = [f"pc{number:02d}" for number in range(3 + good + more)]
    done = dict.fromkeys(names[3 : 3 + good], ("done", "ok"))
    none_left = dict.fromkeys(names[3 + good :], ("failed", "no-activations-left"))
    words = ("install-key", "--all", "--activate")
    with estate(tmp_path / "estate", place, len(names)) as found:
        before = connections(found)
        dry = place.run(*words, "--dry-run", code=1)
        assert (dry["dry_run"], dry["counts"]) == (True, {"would": 3 + good, "failed": more})
        assert [one["key"] for one in dry["rows"]] == [key.label] * (3 + good) + [None] * more
        assert [one["code"] for one in dry["rows"][-more:]] == ["no-activations-left"] * more
        assert connections(found) == before
        assert place.run("action", "list") == []

        first = place.run(*words, code=1)
        assert outcomes(first) == {**UNREACHED, **done, **none_left}
        assert counted(authority, key) == (good, 3)
        assert [one.status() for one in found[3 : 3 + good]] == [(1, "mak", key.label)] * good
        listed = place.run("machine", "list", "--where", "state=licensed")
        assert [(one["name"], one["proof"]) for one in listed["rows"]] == [(one, "proved") for one in done]
        assert place.run("machine", "show", "pc01")["outcome"] == "host-key-changed"

        # What was not used is still meant for those that did not answer: nobody else is given it.
        place.run("key", "refresh")
        assert outcomes(place.run("action", "resume", code=1)) == {**UNREACHED, **done, **none_left}
        authority.run("key", "raise", key.label, str(3 + good + more))
        place.run("key", "refresh")
        done |= dict.fromkeys(none_left, ("done", "ok"))
        assert outcomes(place.run("action", "resume", first["id"], code=1)) == {**UNREACHED, **done}
        assert counted(authority, key) == (good + more, 3)
        _is_logged(place, first["id"], key)


def _is_logged(place: Place, aid: str, key: ProductKey) -> None:
    """Every row is in the log, by the key's label; the key itself is nowhere (M8)."""
    log = [one for one in place.run("log", "--limit", "1000") if one["what"].get("action") == aid]
    by_machine = {one["what"]["machine"]: one for one in log if "machine" in one["what"]}
    assert (by_machine["pc03"]["result"], by_machine["pc03"]["what"]["key"]) == ("ok", key.label)
    assert by_machine["pc01"]["result"] == "host-key-changed"
    files = [one for one in place.folder.rglob("*") if one.is_file() and "pc" not in str(one.parent.name)]
    written = place.said.encode() + b"".join(one.read_bytes() for one in files)
    for secret in (key.text()[:11], key.symbols[:10]):
        assert secret.encode() not in written


def test_a_batch_whose_vamt_is_killed_goes_on_and_counts_nothing_twice(
    place: Place, authority: Home, tmp_path: Path
) -> None:
    """F45: SIGKILL while a machine activates; the next command asks it how it is, and does the rest."""
    key = authority.key(activations=5)
    keep(place, key)
    (tmp_path / "estate").mkdir()
    with machines(tmp_path / "estate", authority, 2) as found:
        known(place, found)
        place.run("collect", "--all")
        words = ("install-key", "--all", "--activate", "--at-once", "1")
        killed = subprocess.Popen(
            [sys.executable, "-m", "volact", "vamt", *words], env=place.environ, stdout=subprocess.DEVNULL
        )

        def states() -> list[str]:
            with closing(sqlite3.connect(place.folder / "home" / "vamt" / "vamt.db")) as database:
                return [state for (state,) in database.execute("SELECT state FROM action_row ORDER BY id")]

        until(lambda: states()[:2] == ["done", "running"], 60)
        killed.kill()
        killed.wait(60)
        assert states() == ["done", "running"]
        assert outcomes(place.run("action", "resume")) == {"pc00": ("done", "ok"), "pc01": ("done", "ok")}
        assert [one.status() for one in found] == [(1, "mak", key.label)] * 2
        assert counted(authority, key) == (2, 3)
        _all_other_actions(place, authority, found, key)
        _by_a_kms_host(place, authority, found[0], tmp_path / "kmshost")


def _all_other_actions(place: Place, authority: Home, found: list[SshMachine], key: ProductKey) -> None:
    """Giving back, taking off, hosts, KMS."""
    assert outcomes(place.run("deactivate", "pc00")) == {"pc00": ("done", "ok")}
    assert counted(authority, key) == (1, 4)
    assert found[0].status()[0] == 0
    assert outcomes(place.run("remove-key", "pc00")) == {"pc00": ("done", "ok")}
    assert found[0].status() == (0, "kms", None)
    set_ = place.run("set-host", "pc00", "--host", "127.0.0.1:9", "--domain", "corp.example")
    assert set_["rows"][0]["detail"] == (
        "The KMS host is 127.0.0.1:9. KMS hosts are looked for in corp.example."
    )
    (row,) = place.run("machine", "list", "--where", "host=127.0.0.1:9")["rows"]
    assert row["name"] == "pc00"
    assert outcomes(place.run("activate", "--kms", "pc00", code=1)) == {
        "pc00": ("failed", "host-unreachable")
    }
    assert outcomes(place.run("set-host", "pc00", "--clear")) == {"pc00": ("done", "ok")}
    assert place.run("machine", "list", "--where", "host=127.0.0.1:9")["total"] == 0


def _by_a_kms_host(place: Place, authority: Home, machine: SshMachine, folder: Path) -> None:
    """A machine is told its host, and is activated by it; the list has both, proved by the lease."""
    home = kmshost_process.Home(folder, authority)
    home.set_up()
    with kmshost_process.Host(home) as host:
        address = f"127.0.0.1:{host.port}"
        assert outcomes(place.run("set-host", machine.name, "--host", address)) == {
            machine.name: ("done", "ok")
        }
        assert outcomes(place.run("activate", "--kms", machine.name)) == {machine.name: ("done", "ok")}
    assert machine.status() == (1, "kms", None)
    (row,) = place.run("machine", "list", "--where", f"host={address}")["rows"]
    assert (row["name"], row["state_name"], row["proof"]) == (machine.name, "Licensed", "proved")


def test_what_waits_for_a_machine_is_done_when_it_is_back(
    place: Place, authority: Home, tmp_path: Path
) -> None:
    """The queue, and a schedule, by commands; a planted key is in no file and no process."""
    key = authority.key(activations=1)
    keep(place, key)
    (tmp_path / "estate").mkdir()
    with machines(tmp_path / "estate", authority, 1) as found:
        known(place, found)
        place.run("schedule", "add", "nightly", "collect", "--all", "--every", "1d", "--at", "02:00")
        place.run("collect", "--all")
        found[0].sshd.go_off()
        told = place.run("install-key", "pc00", "--activate", "--queue")
        assert outcomes(told) == {"pc00": ("queued", "unreachable-port")}
        (waiting,) = place.run("queue", "list")
        assert (waiting["action"], waiting["tries"], waiting["key"]) == ("install-key", 1, key.label)
        assert place.run("queue", "run") == []
        assert [one["outcome"] for one in place.run("queue", "run", "--all")] == ["queued"]
        found[0].sshd.__enter__()
        place.run("machine", "add", "pc00", "--address", "127.0.0.1", "--port", str(found[0].sshd.port))
        place.run("machine", "trust", "pc00", "--host-key", found[0].sshd.host_key)
        assert [one["outcome"] for one in place.run("queue", "run", "--all")] == ["done"]
        assert found[0].status() == (1, "mak", key.label)
        assert place.run("queue", "list") == []
        assert place.refused("queue", "cancel", "pc00") == "action-not-queued"
        assert [one["next"][11:] for one in place.run("schedule", "list")] == ["02:00:00Z"]
        assert place.run("schedule", "run") == []
        assert place.run("schedule", "remove", "nightly") == {"removed": "nightly"}
