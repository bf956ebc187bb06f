"""``volact client return``: shapes, exit codes, files, and what ``status`` says (M6, DESIGN section 5)."""

import json
import os
from pathlib import Path

import pytest

from client.commands import Terminal
from client.publisher import PRODUCT, request_of
from client.server import Server
from volact.protocol import jws, trust

SHAPE = "publisher product activation state state_name reason file request receipt".split()

pytestmark = pytest.mark.sockets


class Authority(Server):
    """It takes returns, too."""

    def posted(self, body: bytes) -> tuple[int, bytes]:
        request = request_of(trust.read_bundle(body))
        if request["op"] != "return":
            return 200, jws.write_json(self.publisher.confirmation(request, act="A" * 22))
        return 200, jws.write_json(self.publisher.receipt(request, act="A" * 22))


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capsys)


def activated(terminal: Terminal, server: Server) -> None:
    terminal.installed(url=server.url, tls=(server.pin,))
    terminal.client("install-key", terminal.publisher.key().text())
    assert terminal.client("activate").code == 0


def row(terminal: Terminal) -> tuple[int, str]:
    (found,) = terminal.client("status", "--json").json["products"]
    return found["state"], found["reason"]


def test_a_return_online_and_what_is_said_of_it(terminal: Terminal) -> None:
    with Authority(terminal.folder / "tls", terminal.publisher) as server:
        activated(terminal, server)
        value = terminal.client("return", "--json").json
        assert list(value) == SHAPE
        assert (value["product"], value["activation"], value["file"]) == (PRODUCT, "A" * 22, None)
        assert (value["state"], value["state_name"], value["reason"]) == (
            0,
            "Unlicensed",
            "activation-returned",
        )
        assert value["receipt"].keys() == {"token", "chain", "roots"}
        assert value["request"] is None
        assert row(terminal) == (0, "activation-returned")
        said = terminal.client("return", "--json")
        assert (said.code, said.json["code"]) == (1, "activation-returned")
        assert "given back" in terminal.client("status").out
        assert "Unlicensed" in terminal.slmgr("/dlv").out
        assert "Return:" not in terminal.client("status").out


def test_an_authority_that_is_not_there_is_exit_code_3_and_the_return_waits(terminal: Terminal) -> None:
    with Authority(terminal.folder / "tls", terminal.publisher) as server:
        activated(terminal, server)
    said = terminal.client("return", "--json")
    assert (said.code, said.json["code"]) == (3, "authority-unreachable")
    assert row(terminal) == (1, "activated")
    assert "Return: not answered yet" in terminal.client("status").out


def test_a_return_by_file(terminal: Terminal) -> None:
    with Authority(terminal.folder / "tls", terminal.publisher) as server:
        activated(terminal, server)
    file = terminal.folder / "return.file"
    value = terminal.client("return", "--product", PRODUCT, "--file", str(file), "--json").json
    assert list(value) == SHAPE
    assert (value["state"], value["file"], value["receipt"]) == (0, str(file), None)
    written = json.loads(file.read_bytes())
    assert written == value["request"]
    assert request_of(written)["file"] is True
    assert row(terminal) == (0, "activation-returned")
    assert "Return: promised by file" in terminal.client("status").out
    first = file.read_bytes()
    file.unlink()
    assert terminal.client("return", "--file", str(file)).code == 0
    assert file.read_bytes() == first


@pytest.mark.parametrize("where", ["no/such/folder/f", "", ".", "facts.json/f"])
def test_a_file_that_cannot_be_written_stops_nothing(
    terminal: Terminal, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Authority(terminal.folder / "tls", terminal.publisher) as server:
        activated(terminal, server)
    monkeypatch.chdir(terminal.folder)
    said = terminal.client("return", "--file", where, "--json")
    assert (said.code, said.json["code"]) == (4, "not-writable")
    assert row(terminal) == (1, "activated")
    assert not list(terminal.folder.rglob("return.json"))


def test_a_disk_that_fills_after_the_machine_has_stopped_costs_a_repetition(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volact.client import cli

    with Authority(terminal.folder / "tls", terminal.publisher) as server:
        activated(terminal, server)
    file = str(terminal.folder / "f")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patched:
        patched.setattr(cli, "write_durably", full)
        said = terminal.client("return", "--file", file, "--json")
    assert (said.code, said.json["code"]) == (4, "not-writable")
    assert row(terminal) == (0, "activation-returned")
    assert terminal.client("return", "--file", file).code == 0


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["return"], "nothing-to-return", 1),
        (["return", "--file", "{file}"], "nothing-to-return", 1),
        (["return", "--product", "com.example.none"], "product-not-installed", 1),
        (["return", "--file"], "usage", 2),
        (["return", "everything"], "usage", 2),
    ],
)
def test_wrong_calls(terminal: Terminal, words: list[str], code: str, exit_code: int) -> None:
    terminal.installed()
    file = terminal.folder / "f"
    said = terminal.client(*[word.format(file=file) for word in words], "--json")
    assert (said.code, said.json["code"]) == (exit_code, code)
    assert said.json["next"]
    assert not file.exists()


def test_with_several_products_one_is_named(terminal: Terminal) -> None:
    terminal.installed("com.example.cad", "com.example.mill")
    assert terminal.client("return", "--json").json["code"] == "product-ambiguous"
    assert terminal.client("return", "--help").code == 0
