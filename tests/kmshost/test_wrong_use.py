"""Every command called wrongly: one sentence, the right code, no traceback, and never a key (M8)."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from authority_site import Site
from kmshost.enterprise import Enterprise
from volact.kmshost import cli
from world import new_key

Run = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Enterprise]:
    site = Site(tmp_path / "authority.db")
    site.product()
    yield Enterprise(tmp_path, site)
    site.close()


@pytest.fixture
def run(host: Enterprise, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name, value in host.environ.items():
        monkeypatch.setenv(name, value)

    def command(*words: str) -> tuple[int, Any, str]:
        code = cli.main([*words, "--json"])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, json.loads(said.out), said.err

    return command


COMMANDS = [
    ["install-key", "-"],
    ["activate"],
    ["extend"],
    ["status"],
    ["clients"],
    ["events"],
    ["enrol"],
    ["serve"],
    ["activate", "--request-file", "request.json"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2])[:20])
def test_before_init_every_command_says_so(run: Run, words: list[str]) -> None:
    code, said, _ = run(*words)
    assert (code, said["code"]) == (1, "not-set-up")


@pytest.mark.parametrize(
    "words",
    [
        ["init"],
        ["init", "--root"],
        ["init", "--root", "nothing"],
        ["install-key"],
        ["activate", "--authority", "https://a.test", "--request-file", "x"],
        ["activate", "--authority", "nonsense"],
        ["activate", "--authority", "http://plain.test"],
        ["activate", "--authority", "https://"],
        ["activate", "--authority", "https://a.test:x"],
        ["activate", "--authority", ""],
        ["extend", "--authority", "http://plain.test"],
        ["activate", "--request-file", "x", "--response-file", "y"],
        ["extend", "now"],
        ["clients", "--limit", "0"],
        ["clients", "--limit", "100001"],
        ["clients", "--after", "x"],
        ["clients", "--after", "-1"],
        ["clients", "--after", "9" * 23],
        ["events", "--since", "yesterday"],
        ["events", "--since", "2h ago"],
        ["events", "--limit", "-1"],
        ["events", "--limit", "9" * 23],
        ["serve", "--listen", "1688"],
        ["serve", "--listen", "127.0.0.1:65536"],
        ["frobnicate"],
        [],
    ],
    ids=" ".join,
)
def test_usage(host: Enterprise, run: Run, words: list[str]) -> None:
    if words[:1] != ["init"]:
        host.init()
    code, said, _ = run(*words)
    assert (code, said["code"]) == (2, "usage")


def test_what_a_host_without_key_and_delegation_says(host: Enterprise, run: Run, tmp_path: Path) -> None:
    host.init()
    assert run("activate")[1]["code"] == "no-key-installed"
    assert run("extend")[1]["code"] == "host-not-activated"
    code, status, _ = run("status")
    assert (code, status["activated"], status["reason"]) == (0, False, "host-not-activated")
    assert status["products"][0]["required"] == 25
    assert [run("clients")[1], run("events")[1]] == [[], []]
    code, said, _ = run("activate", "--response-file", str(tmp_path / "missing"))
    assert (code, said["code"]) == (4, "not-readable")
    assert run("init", f"--root={host.site.pub}")[1]["code"] == "already-exists"


def test_a_request_file_that_cannot_be_written(host: Enterprise, run: Run, tmp_path: Path) -> None:
    host.init()
    host.install_key(host.site.key("kms-host"))
    code, said, _ = run("activate", "--request-file", str(tmp_path / "no" / "folder"))
    assert (code, said["code"]) == (4, "not-writable")
    assert run("activate", "--request-file", str(tmp_path / "request.json"))[0] == 0


@pytest.mark.sockets
def test_an_authority_that_is_not_there(host: Enterprise, run: Run) -> None:
    host.init()
    host.install_key(host.site.key("kms-host"))
    code, said, _ = run("activate", "--authority", "https://127.0.0.1:1")
    assert (code, said["code"]) == (3, "authority-unreachable")


def test_a_file_of_another_sort_is_named(host: Enterprise, run: Run, tmp_path: Path) -> None:
    toml = tmp_path / "product.toml"
    toml.write_text('id = "com.example.cad"\n')
    code, said, _ = run("init", f"--root={host.site.pub}", str(toml))
    assert (code, said["code"]) == (1, "document-refused")
    assert str(toml) in said["detail"]
    assert "authority product export" in said["detail"]
    host.init()
    host.install_key(host.site.key("kms-host"))
    request = tmp_path / "request.json"
    assert run("activate", "--request-file", str(request))[0] == 0
    for file, named in ((request, "a request"), (host.product_file(), "a product")):
        code, said, _ = run("activate", "--response-file", str(file))
        assert (code, said["code"]) == (1, "document-refused")
        assert named in said["detail"]
    assert run("activate", "--request-file", str(request))[0] == 0, "the request still waits"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_may_not_be_read_is_not_readable(
    host: Enterprise, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user at a host that is root's; what he may not write is not-writable."""
    host.init()
    answer, toml, root = tmp_path / "answer.json", host.home / "kmshost.toml", tmp_path / "root.json"
    answer.write_text("{}")
    root.write_text(json.dumps(host.site.keyring.roots.first))
    private = (answer, root, host.product_file())
    for file in private:
        file.chmod(0o600)
    folder, key = host.home / "kmshost", host.home / "kmshost" / "keys" / "host.pem"
    other = 65534
    with somebody_else(other, tmp_path, folder, key.parent):
        code, said, _ = run("status")
        assert (code, said["code"]) == (4, "not-readable"), said
        assert str(key) in said["detail"]
        monkeypatch.setenv("VOLACT_HOME", str(tmp_path / "new"))
        for words in ([f"--root={host.site.pub}", str(private[2])], [f"--root={root}"]):
            code, said, _ = run("init", *words)
            assert (code, said["code"]) == (4, "not-readable"), said
        code, said, _ = run("init", f"--root={host.site.pub}")
        assert (code, said["code"]) == (4, "not-writable"), said
    toml.write_text("port = 1688\n")
    toml.chmod(0o600)
    monkeypatch.setenv("VOLACT_HOME", str(host.home))
    with somebody_else(other, tmp_path, folder):
        code, said, _ = run("status")
        assert (code, said["code"]) == (4, "not-readable"), said
        assert str(toml) in said["detail"]


@contextmanager
def somebody_else(user: int, *folders: Path) -> Iterator[None]:
    """Be another user, who may look into these folders."""
    modes = {place: place.stat().st_mode for one in folders for place in (one, *one.parents)}
    for place, mode in modes.items():
        place.chmod(mode | 0o011)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        for place, mode in modes.items():
            place.chmod(mode)


def test_no_command_repeats_a_key(host: Enterprise, run: Run, tmp_path: Path) -> None:
    host.init()
    key = new_key("mak").text()
    typed = key[:-1] + ("A" if key[-1] != "A" else "B")
    file = tmp_path / "key"
    file.write_text(key + "\n")
    for words in (
        ["install-key", key],
        ["install-key", typed],
        ["install-key", f"@{file}"],
        ["install-key", *key.split("-")],
        ["activate", key],
        ["init", key, f"--root={host.site.pub}"],
        ["events", "--since", key],
        ["serve", "--listen", key],
        [key],
    ):
        code, said, err = run(*words)
        assert code
        for group in key.split("-")[:4]:
            assert group not in json.dumps(said) + err, words


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("port = 65536\n", "setting-invalid"),
        ("prot = 1688\n", "setting-invalid"),
        ("retry_minutes = 5\n", "setting-invalid"),
        ('log_level = "loud"\n', "usage"),
    ],
)
def test_settings_that_a_service_does_not_start_with(
    host: Enterprise, run: Run, content: str, code: str
) -> None:
    host.init()
    (host.home / "kmshost.toml").write_text(content)
    exit_code, said, err = run("serve")
    assert (exit_code, said["code"]) == (2, code)
    assert "12291" in err


# --- the list of machines that count under a strong count (K17) -------------------------------------------------


def test_machines_are_enrolled_listed_and_replaced(host: Enterprise, run: Run, tmp_path: Path) -> None:
    host.init()
    assert run("enrol")[:2] == (0, [])
    file = tmp_path / "machines.csv"
    file.write_text(f"cmid,name\n{'A' * 43},one\n{'B' * 43},two\n")
    code, said, remark = run("enrol", str(file))
    assert (code, said) == (0, {"added": 2, "removed": 0, "enrolled": 2})
    assert "No product here asks for a strong count" in remark
    assert run("enrol")[1] == ["A" * 43, "B" * 43]
    file.write_text("B" * 43)
    assert run("enrol", str(file), "--replace")[1] == {"added": 0, "removed": 1, "enrolled": 1}


@pytest.mark.parametrize(
    ("content", "code"),
    [("nonsense", "not-readable"), (f"{'A' * 43}\nB", "not-readable"), (None, "not-readable")],
)
def test_a_list_that_is_none_enrols_nobody(
    host: Enterprise, run: Run, tmp_path: Path, content: str | None, code: str
) -> None:
    host.init()
    file = tmp_path / "list"
    if content is not None:
        file.write_text(content)
    exit_code, said, _ = run("enrol", str(file))
    assert (exit_code, said["code"]) == (4, code)
    assert "list" in said["detail"]
    assert run("enrol")[1] == []


def test_replacing_by_nothing_is_a_slip(host: Enterprise, run: Run) -> None:
    host.init()
    assert run("enrol", "--replace")[0] == 2
