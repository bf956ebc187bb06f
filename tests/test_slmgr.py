"""The classic switches (rule S): words, labels, ``--json`` on each, PRODUCT where it is needed."""

import io
from pathlib import Path

import pytest

from client.commands import Terminal
from client.publisher import PRODUCT, request_of
from client.server import Server, send
from volact import slmgr
from volact.protocol import jws, trust


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capsys)


def confirmation(terminal: Terminal, request: Path) -> bytes:
    bundle = trust.read_bundle(request.read_bytes())
    return jws.write_json(terminal.publisher.confirmation(request_of(bundle)))


def test_a_machine_is_activated_by_file_with_the_classic_switches(terminal: Terminal) -> None:
    """P6: /ipk, /dti FILE, /atp FILE, /dli, /xpr."""
    terminal.installed()
    request = terminal.folder / "request"
    assert terminal.slmgr("/ipk", terminal.publisher.key().text()).code == 0
    said = terminal.slmgr("/dti", str(request))
    groups = said.out.splitlines()[0].partition(": ")[2].split(" ")
    assert [len(group) for group in groups] == [6] * 9
    assert trust.read_bundle(request.read_bytes()).keys() == {"token", "jwk", "proof"}
    file = terminal.file("confirmation", confirmation(terminal, request))
    assert "Licensed" in terminal.slmgr("-atp", file).out
    said = terminal.slmgr("/dli")
    assert "License Status: Licensed (1)" in said.out
    assert "Partial Product Key: M0001" in said.out
    assert "permanently activated" in terminal.slmgr("/xpr").out


@pytest.mark.parametrize("how", ["pasted", "stdin"])
def test_a_confirmation_can_be_pasted_or_come_on_standard_input(
    terminal: Terminal, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.installed().slmgr("/ipk", terminal.publisher.key().text())
    terminal.slmgr("/dti", str(terminal.folder / "request"))
    text = confirmation(terminal, terminal.folder / "request").decode()
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    said = terminal.slmgr("/atp", text if how == "pasted" else "-", "--json")
    assert (said.code, said.json["state"]) == (0, 1)


def test_every_switch_answers_in_json(terminal: Terminal) -> None:
    terminal.installed()
    key = terminal.publisher.key().text()
    assert terminal.slmgr("/ipk", key, "--json").json["partial_key"] == "M0001"
    said = terminal.slmgr("/dti", "--json").json
    assert said["iid"].count(" ") == 8
    assert said["request"].keys() == {"token", "jwk", "proof"}
    assert terminal.slmgr("/dli", "--json").json["iid"] == said["iid"]
    detailed = terminal.slmgr("/dlv", "--json").json
    assert (detailed["rearms_left"], detailed["renewal"], detailed["retry"]) == (3, 604800, 7200)
    assert terminal.slmgr("/xpr", "--json").json["state_name"] == "Initial grace"
    assert terminal.slmgr("/rearm", "--json").json["rearms_left"] == 2
    assert terminal.slmgr("/upk", "--json").json["product"] == PRODUCT
    assert terminal.slmgr("/xpr", "--json").json["state"] == 0
    assert terminal.slmgr("/ato", "--json").json["code"] == "no-key-installed"
    assert terminal.slmgr("/atp", "no-such-file", "--json").json["code"] == "not-readable"
    assert terminal.slmgr("--json").json["switches"] == [f"/{name}" for name in slmgr.SWITCHES]


def test_dlv_says_more_than_dli(terminal: Terminal) -> None:
    terminal.installed()
    short, long = terminal.slmgr("/dli").out, terminal.slmgr("/dlv").out
    assert long.startswith(short)
    for label in (
        "Client Machine ID (CMID)",
        "Installation ID (IID)",
        "Remaining rearm count: 3",
        "Virtual machine: no",
    ):
        assert label in long
    assert "Channel: KMS client" in long, "K22: without a key"
    terminal.facts({"os": "3d1219c7c4c5404aaa1f6d2a48adfda4"})
    assert "Fingerprint: thin" in terminal.slmgr("/dlv").out


def test_dlv_names_the_parts_that_only_an_administrator_sees(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from volact import facts
    from volact.client import cli

    seen = facts.Facts({"os": "3d1219c7c4c5404aaa1f6d2a48adfda4"}, unreadable=("uuid", "board"))
    monkeypatch.setattr(cli, "facts_for", lambda _environ, **_lab: seen)
    terminal.installed()
    assert "Only an administrator can read: uuid, board" in terminal.slmgr("/dlv").out


def test_with_several_products_the_last_word_names_one(terminal: Terminal) -> None:
    terminal.installed("com.example.cad", "com.example.cam")
    key = terminal.publisher.key().text()
    for words in (["/ipk", key], ["/upk"], ["/ato"], ["/dli"], ["/dlv"], ["/xpr"], ["/dti"], ["/rearm"]):
        said = terminal.slmgr(*words, "--json")
        assert (said.code, said.json["code"]) == (1, "product-ambiguous")
        assert "com.example.cad, com.example.cam" in said.json["detail"]
    assert terminal.slmgr("/ipk", key, "com.example.cam", "--json").json["product"] == "com.example.cam"
    assert terminal.slmgr("/dli", "com.example.cam", "--json").json["partial_key"] == "M0001"
    assert terminal.slmgr("/dti", "com.example.cam", "--json").json["product"] == "com.example.cam"
    request = terminal.folder / "request"
    assert terminal.slmgr("/dti", str(request), "com.example.cam").code == 0
    assert request.exists()
    assert terminal.slmgr("/dli", "com.example.none", "--json").json["code"] == "product-not-installed"


@pytest.mark.parametrize("words", [["/atoo"], ["/skms", "host"], ["machine-7", "/dli"], ["ato"], ["--ato"]])
def test_an_unknown_switch_says_so(terminal: Terminal, words: list[str]) -> None:
    said = terminal.slmgr(*words, "--json")
    assert said.code == 2
    assert said.json["code"] == "usage"
    assert words[0] in said.json["detail"]


def test_the_nearest_switch_is_named(terminal: Terminal) -> None:
    assert "did you mean '/rearm'" in terminal.slmgr("/reram").err


@pytest.mark.parametrize("words", [["/ipk"], ["/ato", "a", "b"], ["/atp"], ["/dti", "a", "b", "c"]])
def test_too_few_or_too_many_words_are_usage(terminal: Terminal, words: list[str]) -> None:
    assert terminal.slmgr(*words).code == 2


def test_help_lists_every_switch(terminal: Terminal) -> None:
    for words in (["/?"], ["-h"], ["--help"]):
        said = terminal.slmgr(*words)
        assert said.code == 0
        assert all(f"/{name}" in said.out for name in slmgr.SWITCHES)
    assert terminal.slmgr().code == 2


@pytest.mark.sockets
def test_ato_activates_and_says_what_became_of_the_status_list(terminal: Terminal) -> None:
    with Server(terminal.folder / "tls", terminal.publisher) as server:
        terminal.installed(url=server.url, tls=(server.pin,)).slmgr("/ipk", terminal.publisher.key().text())
        said = terminal.slmgr("/ato")
        assert said.code == 0
        assert "Product activated successfully: Licensed." in said.out
        server.misbehave = lambda handler: send(handler, 503, b"")
        said = terminal.slmgr("/ato")
        assert said.code == 0
        assert "The status list was not fetched" in said.err


@pytest.mark.sockets
def test_ato_says_when_the_authority_is_not_there(terminal: Terminal) -> None:
    terminal.installed().slmgr("/ipk", terminal.publisher.key().text())
    assert terminal.slmgr("/ato").code == 3
