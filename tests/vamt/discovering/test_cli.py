"""``volact vamt discover``: what is found becomes rows, what is wrong is said, and no secret is an argument (V1, T28)."""

import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nameservers import Key, free_port
from polling import SECONDS, until
from programs import HEARS_CTRL_C, LOOPBACK
from slapd import MACHINES, PASSWORD, READER, Entry, Slapd
from vamt.discovering.primary import Primary
from vamt.discovering.test_knownhosts import A
from volact import commands
from volact.vamt import desk, setup
from volact.vamt.discovering import cli

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Commands in a folder where no VAMT is set up yet."""
    monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, Any, str]:
        code = commands.main(cli.app, [*words, "--json"])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, json.loads(said.out), said.err

    return command


@pytest.fixture
def vamt(run: Run) -> Run:
    """Commands beside a VAMT that is set up."""
    setup.initialise("VAMT")
    return run


def machines() -> dict[str, tuple[str, ...]]:
    """The machines that VAMT knows by their full names, and in which groups they are."""
    with desk.desk() as at:
        found = at.vamt.machines.list(at.person, limit=100)
    rows = {row.machine["mid"]: row.machine for row in found.page.rows}
    return {
        f"{one['name']}.{one['domain']}".strip(".") or "by address": tuple(found.groups.get(one["id"], ()))
        for one in rows.values()
    }


def test_a_csv_file_becomes_rows(vamt: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(
        "name,domain,group\nweb1,corp.example,\nweb2,corp.example,Web\nWEB1,corp.example,\n-x,,\n"
    )
    code, answer, said = vamt("csv", "list.csv", "--group", "SecureNetwork")
    assert code == 0
    assert (answer["found"], answer["machines"], answer["new"], answer["skipped"]) == (3, 2, 2, 1)
    assert answer["left_out"] == [{"where": "line 5, column 1", "reason": "'-x' is no name of a host"}]
    assert "left out: line 5, column 1: '-x' is no name of a host" in said
    assert machines() == {"web1.corp.example": ("SecureNetwork",), "web2.corp.example": ("Web",)}
    code, answer, _ = vamt("csv", "list.csv")
    assert (code, answer["machines"], answer["new"]) == (0, 2, 0)


def test_a_csv_file_that_breaks_off_changes_nothing(vamt: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text('name,group\nweb1,\nweb2,"x\n')
    code, answer, _ = vamt("csv", "list.csv")
    assert (code, answer["code"], answer["line"], answer["column"]) == (1, "list-malformed", 3, 6)
    assert machines() == {}


def test_known_hosts_by_their_usual_place(vamt: Run, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(f"web1.corp.example,192.0.2.1 {A}\n")
    code, answer, _ = vamt("known-hosts")
    assert (code, answer["new"]) == (0, 1)
    assert list(machines()) == ["web1.corp.example"]
    (tmp_path / "other").write_text(f"[web2]:2222 {A}\n")
    code, answer, _ = vamt("known-hosts", "other", "--dry-run")
    assert code == 0
    assert [(one["name"], one["port"], one["host_keys"]) for one in answer["sightings"]] == [
        ("web2", 2222, [A])
    ]
    assert list(machines()) == ["web1.corp.example"]


@pytest.mark.sockets
def test_addresses_that_answer(vamt: Run, tmp_path: Path) -> None:
    (tmp_path / "ranges").write_text("# here\n127.9.0.1-2\n")
    with socket.create_server(("127.9.0.1", 0)) as one, socket.socket() as nobody:
        nobody.bind(("127.9.0.3", 0))
        ports = ["--ssh-port", str(one.getsockname()[1]), "--winrm-port", str(nobody.getsockname()[1])]
        code, answer, said = vamt("addresses", "@ranges", "127.9.0.3,127.9.0.1", *ports, "--group", "Lab")
    assert (code, answer["found"], answer["new"]) == (0, 1, 1)
    assert "3 addresses: 1 answer, 2 have no such port open, 0 are silent, to 0 there is no way" in said
    assert machines() == {"by address": ("Lab",)}


@contextlib.contextmanager
def silent(address: str) -> Iterator[int]:
    """The port of a listener there whose queue is full: it answers no connect, on Linux."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind((address, 0))
        full.listen(0)
        port = int(full.getsockname()[1])
        for _ in range(4):
            caller = stack.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex((address, port))
        yield port


@pytest.mark.sockets
def test_what_answers_is_a_row_while_others_are_waited_for(vamt: Run) -> None:
    """And so it stays when the command is stopped by Ctrl-C, which ends the asking at once."""
    with silent("127.9.0.2") as port, socket.create_server(("127.9.0.1", port)):
        words = ("addresses", "127.9.0.1-2", "--ssh-port", str(port), "--winrm-port", str(port))
        asks = [sys.executable, "-m", "volact", "vamt", "discover", *words, "--timeout", "60"]
        command = [*HEARS_CTRL_C, *asks]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
            try:
                until(lambda: list(machines()) == ["by address"])
                assert asking.poll() is None
                asking.send_signal(signal.SIGINT)
                out, err = asking.communicate(timeout=SECONDS)
            finally:
                asking.kill()
    assert (asking.returncode, out, err) == (130, "", "stopped\n")
    assert list(machines()) == ["by address"]
    with desk.desk() as at:
        (row,) = at.vamt.access.log(at.person, limit=100)
    assert (row.action, row.result, row.rows) == ("discover", "stopped", 1)


@pytest.mark.sockets
def test_progress_is_said_now_and_then(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_STEP", 2)
    with socket.socket() as nobody:
        nobody.bind(("127.9.0.9", 0))
        port = str(nobody.getsockname()[1])
        _, answer, said = run(
            "addresses",
            "127.9.0.1-5",
            "--ssh-port",
            port,
            "--winrm-port",
            port,
            "--timeout",
            "5",
            "--dry-run",
        )
    assert answer["found"] == 0
    assert [line for line in said.splitlines() if line.startswith("asked")] == [
        "asked 2 of 5 addresses",
        "asked 4 of 5 addresses",
    ]


@pytest.mark.sockets
def test_a_network_to_which_no_way_leads(run: Run) -> None:
    """2001:db8::/32 is nobody's: where a default route leads on, it is silent instead."""
    code, answer, said = run("addresses", "2001:db8::fffe", "--timeout", "1", "--dry-run")
    assert (code, answer.get("code")) == (3, "network-unreachable") or (code, "1 are silent" in said) == (
        0,
        True,
    )


@pytest.fixture(scope="module")
def named() -> Iterator[Primary]:
    class Keyed(Primary):
        allowed = "key vamt"

    with Keyed(
        {"corp.test": "web1 A 192.0.2.1\n* A 192.0.2.2", "2.0.192.in-addr.arpa": "7 PTR web7.corp.test."},
        [Key("vamt")],
    ) as running:
        yield running


@pytest.mark.sockets
def test_a_zone_and_the_names_of_addresses(
    vamt: Run, named: Primary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ["--server", LOOPBACK, "--port", str(named.port)]
    code, answer, _ = vamt("dns", "corp.test", *at)
    assert (code, answer["code"]) == (1, "transfer-refused")
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(named.keys[0].text())
    code, answer, _ = vamt("dns", "corp.test", *at, "--key", "@key")
    assert (code, answer["found"], answer["new"]) == (0, 1, 1)
    assert answer["left_out"][0] == {"where": "*.corp.test", "reason": "a wildcard"}
    code, answer, _ = vamt("dns", "--reverse", "192.0.2.0/28", *at)
    assert (code, answer["found"], answer["skipped"]) == (0, 1, 0)
    assert set(machines()) == {"web1.corp.test", "web7.corp.test"}
    monkeypatch.setattr("sys.stdin", io.StringIO(f"vamt:{named.keys[0].secret}\n"))
    code, answer, _ = vamt("dns", "corp.test", *at, "--key", "-", "--dry-run")
    assert [one["addresses"] for one in answer["sightings"]] == [["192.0.2.1"]]
    code, answer, _ = vamt("dns", "corp.test", "--server", LOOPBACK, "--port", str(free_port()))
    assert (code, answer["code"]) == (3, "name-server-unreachable")


@pytest.mark.sockets
def test_a_directory(vamt: Run, tmp_path: Path) -> None:
    entries = [Entry(f"cn={name},ou=machines", "device", cn=name) for name in ("web1", "web2", "not one")]
    (tmp_path / "password").touch(0o600)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    with Slapd(entries) as slapd:
        words = ["ldap", slapd.plain, "--base", MACHINES, "--account", READER, "--password", "@password"]
        code, answer, _ = vamt(*words, "--ca", str(slapd.ca_file), "--group", "Web")
        assert (code, answer["found"], answer["new"], answer["skipped"]) == (0, 2, 2, 1)
        assert machines() == {"web1.corp.test": ("Web",), "web2.corp.test": ("Web",)}
        code, answer, _ = vamt(*words, "--plain", "--name", "*2", "--dry-run")
        assert [one["name"] for one in answer["sightings"]] == ["web2"]
        (tmp_path / "password").write_text("wrong\n")
        code, answer, _ = vamt(*words, "--ca", str(slapd.ca_file))
        assert (code, answer["code"]) == (1, "directory-refused")
    code, answer, _ = vamt(*words)
    assert (code, answer["code"]) == (3, "directory-unreachable")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("csv missing.csv", 4, "not-readable"),
        ("csv .", 4, "not-readable"),
        ("known-hosts missing", 4, "not-readable"),
        ("known-hosts", 4, "not-readable"),
        ("addresses", 2, "usage"),
        ("addresses web1", 2, "usage"),
        ("addresses 10.0.0.0/8", 1, "range-too-large"),
        ("addresses 2001:db8::/64", 1, "range-too-large"),
        ("addresses 10.0.0.0/17 10.0.128.0/17 192.0.2.1", 1, "range-too-large"),
        ("addresses @missing", 4, "not-readable"),
        ("addresses @malformed", 1, "list-malformed"),
        ("addresses @binary", 4, "not-readable"),
        ("addresses @large", 4, "not-readable"),
        ("addresses 192.0.2.1 --ssh-port 0", 2, "usage"),
        ("addresses 192.0.2.1 --ssh-port 65536", 2, "usage"),
        ("addresses 192.0.2.1 --winrm-port 65536", 2, "usage"),
        ("addresses 192.0.2.1 --timeout 0", 2, "usage"),
        ("addresses 192.0.2.1 --timeout 61", 2, "usage"),
        ("addresses 192.0.2.1", 1, "not-set-up"),
        ("csv good.csv", 1, "not-set-up"),
        (f"csv good.csv --group {'g' * 65}", 2, "usage"),
        ("dns --server localhost", 2, "usage"),
        ("dns corp.test --reverse 192.0.2.1 --server localhost", 2, "usage"),
        ("dns --reverse 192.0.2.1 --key @key --server localhost", 2, "usage"),
        ("dns --reverse web1 --server localhost", 2, "usage"),
        ("dns corp.test --server localhost --port 0", 2, "usage"),
        ("dns corp.test --server localhost --key @good.csv", 2, "usage"),
        ("dns a..b --server localhost --dry-run", 2, "usage"),
        ("ldap corp.test --base dc=corp --dry-run", 2, "usage"),
        ("ldap ldap://corp.test --base corp --dry-run", 2, "usage"),
        ("ldap ldap://corp.test --base dc=corp --account cn=x --dry-run", 2, "usage"),
        ("ldap ldap://corp.test --base dc=corp --account cn=x --password @missing", 4, "not-readable"),
        ("ldap ldap://corp.test --base dc=corp --ca missing --dry-run", 2, "usage"),
        ("ldap ldap://corp.test", 2, "usage"),
        ("", 2, "usage"),
    ],
)
def test_each_wrong_call_has_its_code(run: Run, tmp_path: Path, words: str, code: int, said: str) -> None:
    (tmp_path / "malformed").write_text("192.0.2.1\nx\n")
    (tmp_path / "large").write_text(" " * (8 * 1024 * 1024 + 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "good.csv").write_text("name\nweb1\n")
    (tmp_path / "good.csv").chmod(0o600)  # as a file with a secret has to be
    (tmp_path / "key").write_text("x:AAAA\n")
    found, answer, _ = run(*words.split())
    assert (found, answer["code"]) == (code, said)
    assert answer["next"]


@pytest.mark.parametrize("option", ["--password", "--key"])
def test_a_secret_is_no_argument(run: Run, option: str) -> None:
    words = {
        "--password": [
            "ldap",
            "ldap://localhost",
            "--base",
            "dc=corp",
            "--account",
            "cn=x",
            option,
            "hunter2",
        ],
        "--key": ["dns", "corp.test", "--server", "localhost", option, "hunter2"],
    }[option]
    code, answer, said = run(*words)
    assert (code, answer["code"]) == (2, "usage")
    assert "hunter2" not in json.dumps(answer) + said


def test_a_person_reads_a_table(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.csv").write_text(
        "name,address\n" + "".join(f"web{n},\n" for n in range(1, 1003)) + "-,\n" * 12
    )
    assert commands.main(cli.app, ["csv", "list.csv", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].split() == "name domain addresses transport port platform group".split()
    assert said.out.splitlines()[1000].strip() == "web1000"
    assert said.out.splitlines()[1001] == "2 more"
    assert said.err.count("left out: line") == 10
    assert "left out: 2 more" in said.err
    (tmp_path / "empty.csv").write_text("name\n")
    assert commands.main(cli.app, ["csv", "empty.csv", "--dry-run"]) == 0
    assert capsys.readouterr().out == "found: nothing (0 rows were left out)\n"


def test_a_person_reads_what_became_of_it(
    vamt: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("name\nweb1\n-\n")
    assert commands.main(cli.app, ["csv", "list.csv"]) == 0
    assert capsys.readouterr().out == (
        "found: 1 machines, 1 of them new; 1 rows were left out\nNext: volact vamt machine list\n"
    )
    (tmp_path / "list.csv").write_text("name\n")
    assert commands.main(cli.app, ["csv", "list.csv"]) == 0
    assert capsys.readouterr().out == "found: nothing (0 rows were left out)\n"
