"""T29, M6, M10 by commands, with a real sshd: a machine that nobody knows yet, compared by its fingerprint and let in."""

import stat
import sys
from pathlib import Path

import pytest

from sshd import Sshd
from vamt.collecting import standins
from vamt.collecting.standins import pinned
from vamt.place import Place

pytestmark = pytest.mark.sockets
HOST_KEY, OTHER = "ssh-ed25519 " + "A" * 68, "SHA256:" + "A" * 43


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.run("init")
    return made


def test_a_fingerprint_is_compared_and_the_machine_is_let_in(place: Place, tmp_path: Path) -> None:
    with Sshd(tmp_path / "web1", VOLACT_HOME=str(tmp_path / "client")) as machine:
        login = ("--user", machine.login.user, "--key-file", str(machine.folder / "user_key"))
        place.run("login", "set", *login, "--command", f"{sys.executable} -m volact")
        place.run("machine", "add", "127.0.0.1", "--port", str(machine.port))
        (failed,) = place.run("collect", "--all", code=3)["failed"]
        assert (failed["code"], failed["host_key"]) == ("host-key-unknown", machine.host_key)
        shown = failed["fingerprint"]
        assert "Accepted" not in machine.log()
        place.run("machine", "trust", "127.0.0.1", "--fingerprint", OTHER)
        said = place.said("collect", "--all", code=3)
        assert "1 host-key-changed: The machine shows another host key than the pinned one" in said
        assert "volact vamt machine trust" in said
        assert "Accepted" not in machine.log()
        assert place.run("machine", "trust", "127.0.0.1", "--fingerprint", shown)["host_keys"] == [shown]
        assert place.run("collect", "--all") == {"asked": 1, "answered": 1, "failed": []}
        assert "Accepted" in machine.log()
        mid = place.run("machine", "list")["rows"][0]["id"]
        assert place.run("machine", "show", mid)["host_keys"] == [machine.host_key]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "Nothing is to be pinned."),
        (("--fingerprint", "SHA256:" + "A" * 42), 2, "is no SHA-256 fingerprint of a host key."),
        (("--fingerprint", "SHA256:" + "A" * 44), 2, "is no SHA-256 fingerprint of a host key."),
        (("--fingerprint", "SHA256:" + "A" * 42 + "B"), 2, "is no SHA-256 fingerprint of a host key."),
        (("--fingerprint", "MD5:" + ":".join(["00"] * 16)), 2, "is no SHA-256 fingerprint of a host key."),
        (("--fingerprint", HOST_KEY), 2, "is no SHA-256 fingerprint of a host key."),
        (("--host-key", "SHA256:x"), 2, "is no SHA-256 fingerprint of a host key."),
    ],
)
def test_what_is_no_pin(place: Place, words: tuple[str, ...], code: int, said: str) -> None:
    place.run("machine", "add", "web1")
    assert said in place.run("machine", "trust", "web1", *words, code=code)["detail"]
    assert place.run("machine", "show", "web1")["host_keys"] == []


def test_keys_and_fingerprints_together(place: Place) -> None:
    place.run("machine", "add", "web1")
    words = ("--host-key", HOST_KEY, "--host-key", OTHER, "--fingerprint", OTHER[:-1] + "E")
    pins = place.run("machine", "trust", "web1", *words)["host_keys"]
    assert pins == [HOST_KEY, OTHER, OTHER[:-1] + "E"]
    (entry,) = place.run("log", "--action", "trust-host-keys")
    assert entry["what"] == {"trust": "web1", "host_keys": pins}


def test_a_key_that_known_hosts_revokes_is_taken_off(place: Place, tmp_path: Path) -> None:
    keys = [pinned(key) for key in (standins.HOST_KEY, standins.OWN_KEY)]
    place.file("known_hosts", f"web1 {keys[0]}\nweb2 {keys[0]}\nweb2 {keys[1]}")
    place.run("discover", "known-hosts", str(tmp_path / "known_hosts"))
    place.file("known_hosts", f"@revoked * {keys[0]}\nweb3 {keys[1]}")
    revoked = ("discover", "known-hosts", str(tmp_path / "known_hosts"))
    place.run(*revoked, "--dry-run")
    assert place.run("machine", "show", "web1")["host_keys"] == [keys[0]]
    assert place.run(*revoked)["new"] == 1
    assert place.run("machine", "show", "web1")["host_keys"] == []
    assert place.run("machine", "show", "web2")["host_keys"] == [keys[1]]
    entry = place.run("log", "--action", "trust-host-keys")[0]
    assert entry["what"] == {"revoke": [keys[0]], "source": "known-hosts known_hosts"}
    assert (entry["rows"], entry["result"]) == (2, "ok")


def test_what_is_written_is_its_owners_alone(place: Place, tmp_path: Path) -> None:
    """Whole estates stand in it."""
    place.run("machine", "add", "web1")
    for name in ("table.csv", "table.xlsx", "table.json"):
        place.run("export", str(tmp_path / name), "--all")
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    for file in (tmp_path / "home" / "vamt").glob("vamt.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    (entry, *_) = place.run("log", "--action", "export-table")
    assert (entry["rows"], entry["what"]["table"]) == (1, "machines")
