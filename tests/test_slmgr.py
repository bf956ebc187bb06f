"""The classic switches (rule S): words, labels, ``--json`` on each, PRODUCT where it is needed."""

import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.commands import Terminal
from client.kms_server import KmsHost, KmsServer
from client.publisher import PRODUCT, request_of
from client.server import Server, send
from volact import slmgr
from volact.protocol import jws, trust
from world import new_key


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


@pytest.mark.parametrize(("more", "is_read"), [(-1, True), (0, True), (1, False), (3_000_000, False)])
def test_standard_input_is_read_no_further_than_a_file_may_be_long(
    terminal: Terminal, more: int, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.installed()
    given = io.StringIO("x" * (1024 * 1024 + more))
    monkeypatch.setattr("sys.stdin", given)
    said = terminal.slmgr("/atp", "-", "--json")
    too_long = (4, "data-broken", "Standard input is larger than 1048576 bytes.")
    assert ((said.code, said.json["code"], said.json["detail"]) != too_long) is is_read
    assert said.code != 0
    assert given.tell() <= 1024 * 1024 + 1


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
    assert terminal.slmgr("/ato", "--json").json["code"] == "host-not-found"
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


# A KMS client


@pytest.fixture
def kms(tmp_path: Path, terminal: Terminal) -> Iterator[KmsServer]:
    terminal.publisher.iat = int(time.time()) - 100
    host = KmsHost(terminal.publisher)
    host.clock = lambda: int(time.time())
    with KmsServer(tmp_path / "kms-tls", host) as running:
        yield running


@pytest.mark.sockets
def test_a_kms_client_is_set_up_with_the_classic_switches(terminal: Terminal, kms: KmsServer) -> None:
    """/skms, /ato, /dli, /dlv, /xpr, /ckms."""
    terminal.installed()
    assert "DNS auto-discovery: KMS name not available" in terminal.slmgr("/dlv").out
    said = terminal.slmgr("/skms", f"127.0.0.1:{kms.port}")
    assert (said.code, said.out) == (0, f"The KMS host of {PRODUCT} is 127.0.0.1:{kms.port}.\n")
    assert "Product activated successfully: Licensed." in terminal.slmgr("/ato").out
    assert "License Status: Licensed (1)" in terminal.slmgr("/dli").out
    assert "Licensed until 20" in terminal.slmgr("/xpr").out
    long = terminal.slmgr("/dlv").out
    for line in (
        "Channel: KMS client",
        f"Registered KMS machine name: 127.0.0.1:{kms.port} (set by hand)",
        "KMS host caching is enabled",
        "Renewal interval: 10080 minutes (told by the KMS host)",
        "Retry interval: 120 minutes (told by the KMS host)",
        "Count at the KMS host, as it last said: 25",
        "Lease ends: 20",
        "Last granted: 20",
        "Next try: 20",
        "Client Machine ID (CMID): ",
    ):
        assert line in long
    assert terminal.slmgr("/ckms").code == 0
    said = terminal.slmgr("/ato", "--json")
    assert (said.code, said.json["code"]) == (1, "host-not-found")
    assert terminal.slmgr("/dli", "--json").json["state"] == 1


@pytest.mark.sockets
def test_a_kms_client_answers_in_json(terminal: Terminal, kms: KmsServer) -> None:
    terminal.installed()
    said = terminal.slmgr("/skms", f"127.0.0.1:{kms.port}", "--json").json
    assert said == {
        "publisher": terminal.publisher.pub,
        "product": PRODUCT,
        "host": f"127.0.0.1:{kms.port}",
        "port": kms.port,
        "renewal": None,
        "retry": None,
        "domain": None,
        "caching": True,
    }
    assert terminal.slmgr("/sai", "15", "--json").json["retry"] == 900
    assert terminal.slmgr("/sri", "43200", "--json").json["renewal"] == 30 * 86400
    before = terminal.slmgr("/dlv", "--json").json["kms"]
    assert (before["renewal_from"], before["retry_from"], before["retry"]) == ("own", "own", 900)
    kms.host.too_few(7)
    said = terminal.slmgr("/ato", "--json")
    assert (said.code, said.json["code"]) == (1, "count-insufficient")
    assert (said.json["count"], said.json["required"]) == (7, 25)
    assert "count-insufficient" in terminal.slmgr("/dlv").out
    assert terminal.slmgr("/ato", "--json").json["state"] == 1
    found = terminal.slmgr("/dlv", "--json").json
    assert (found["renewal"], found["retry"]) == (604800, 7200)
    assert found["kms"]["host"] == found["host"] == f"127.0.0.1:{kms.port}"
    assert (found["kms"]["set_by"], found["kms"]["renewal_from"]) == ("hand", "host")
    assert (found["kms"]["counted"], found["kms"]["failed"]) == (25, None)
    assert found["kms"]["lease_ends"] == found["expires"]
    row = terminal.client("status", "--json").json["products"][0]
    assert (row["channel"], row["reason"], row["host"]) == ("kms", "lease", found["host"])
    assert row["grant"].keys() == {"token", "chain", "roots"}
    assert row["next_try"] > row["granted"]
    assert terminal.slmgr("/ckms", "--json").json["host"] is None
    assert terminal.slmgr("/skms", ":1700", "--json").json["port"] == 1700


@pytest.mark.sockets
def test_run_once_activates_by_the_host_and_logs_what_was_sent_and_answered(
    terminal: Terminal, kms: KmsServer
) -> None:
    """K8: each try is an event, in the log too."""
    terminal.installed().slmgr("/skms", f"127.0.0.1:{kms.port}")
    kms.host.too_few(7)
    said = terminal.client("run", "--once")
    assert said.code == 1
    first, second = said.err.splitlines()[:2]
    assert first.startswith(f"12288 {PRODUCT} 127.0.0.1:{kms.port} state=2")
    assert second.startswith(f"12289 {PRODUCT} 127.0.0.1:{kms.port} count-insufficient required=25 count=7 ")
    assert second.endswith("renewal=10080 retry=120")
    assert terminal.client("run", "--once", "--json").json["products"][0]["state"] == 1
    assert terminal.client("run", "--once", "--json").json["products"][0]["state"] == 1
    assert len(kms.requests) == 2, "what is licensed is not renewed at each start"


@pytest.mark.parametrize("minutes", ["14", "43201", "0", "-1", "x", "", "1.5", "٣٠", "99999999999"])
@pytest.mark.parametrize("switch", ["/sai", "/sri"])
def test_intervals_are_fifteen_minutes_to_thirty_days(terminal: Terminal, switch: str, minutes: str) -> None:
    """K6."""
    said = terminal.installed().slmgr(switch, minutes, "--json")
    assert (said.code, said.json["code"]) == (2, "usage")


def test_the_retry_interval_is_not_longer_than_the_renewal_interval(terminal: Terminal) -> None:
    terminal.installed()
    assert terminal.slmgr("/sri", "119").code == 2, "the product's retry interval is 120 minutes"
    assert terminal.slmgr("/sai", "10081").code == 2
    for switch, minutes in (("/sai", "10080"), ("/sai", "15"), ("/sri", "15"), ("/sri", "43200")):
        assert terminal.slmgr(switch, minutes).code == 0
    long = terminal.slmgr("/dlv").out
    assert "Renewal interval: 43200 minutes (set on this machine)" in long
    assert "Retry interval: 15 minutes (set on this machine)" in long


@pytest.mark.parametrize("word", ["https://kms", "kms:0", "::1", "a b"])
def test_a_host_that_is_no_address_is_refused_before_anything_is_stored(
    terminal: Terminal, word: str
) -> None:
    said = terminal.installed().slmgr("/skms", word, "--json")
    assert (said.code, said.json["code"]) == (2, "usage")
    assert terminal.slmgr("/dli", "--json").json["host"] is None


def test_with_several_products_the_last_word_names_one(terminal: Terminal) -> None:
    terminal.installed("com.example.cad", "com.example.cam")
    key = terminal.publisher.key().text()
    for words in (
        ["/ipk", key],
        ["/upk"],
        ["/ato"],
        ["/dli"],
        ["/dlv"],
        ["/xpr"],
        ["/dti"],
        ["/rearm"],
        ["/skms", "kms"],
        ["/ckms"],
        ["/sai", "15"],
        ["/sri", "15"],
    ):
        said = terminal.slmgr(*words, "--json")
        assert (said.code, said.json["code"]) == (1, "product-ambiguous")
        assert "com.example.cad, com.example.cam" in said.json["detail"]
    assert terminal.slmgr("/ipk", key, "com.example.cam", "--json").json["product"] == "com.example.cam"
    assert terminal.slmgr("/dli", "com.example.cam", "--json").json["partial_key"] == "M0001"
    assert terminal.slmgr("/dti", "com.example.cam", "--json").json["product"] == "com.example.cam"
    request = terminal.folder / "request"
    assert terminal.slmgr("/dti", str(request), "com.example.cam").code == 0
    assert request.exists()
    assert terminal.slmgr("/skms", "kms", "com.example.cam", "--json").json["product"] == "com.example.cam"
    assert terminal.slmgr("/dli", "com.example.none", "--json").json["code"] == "product-not-installed"


@pytest.mark.parametrize(
    "words", [["/atoo"], ["ato"], ["--ato"], ["ato", "com.example.cad"], ["--machine", "/dli"], ["-", "/dli"]]
)
def test_an_unknown_switch_says_so(terminal: Terminal, words: list[str]) -> None:
    said = terminal.slmgr(*words, "--json")
    assert said.code == 2
    assert said.json["code"] == "usage"
    assert words[0] in said.json["detail"]


def test_the_nearest_switch_is_named(terminal: Terminal) -> None:
    assert "did you mean '/rearm'" in terminal.slmgr("/reram").err


@pytest.mark.parametrize(
    "words", [["/ipk"], ["/ato", "a", "b"], ["/atp"], ["/dti", "a", "b", "c"], ["/skms"], ["/sai"]]
)
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


def test_ipk_takes_the_kind_of_key_that_belongs_here(terminal: Terminal) -> None:
    """Where neither role is, and where a client alone is; `--role` and PRODUCT are honoured."""
    host_key, mak = new_key("kms-host").text(), terminal.publisher.key().text()
    said = terminal.slmgr("/ipk", host_key, "--json")
    assert (said.code, said.json["code"]) == (1, "key-wrong-kind")
    assert "kmshost install-key" in said.json["detail"]
    assert terminal.slmgr("/ipk", mak[:-1], "--json").json["code"] == "key-mistyped"
    assert terminal.slmgr("/ipk", mak, "--json").json["code"] == "product-not-installed"
    said = terminal.slmgr("/ipk", host_key, "--role", "kmshost", "--json")
    assert (said.code, said.json["code"]) == (1, "not-set-up")
    terminal.installed()
    for role in ([], ["--role", "client"]):
        said = terminal.slmgr("/ipk", host_key, *role, "--json")
        assert (said.code, said.json["code"]) == (1, "key-wrong-kind")
    assert terminal.slmgr("/ipk", mak, PRODUCT, "--role=client", "--json").json["product"] == PRODUCT


def test_help_says_whom_a_switch_addresses(terminal: Terminal) -> None:
    out = terminal.slmgr("/?").out
    for words in ("/ipk follows the key's kind", "/dlv prints both", "--role says which"):
        assert words in out


def test_a_hosts_switch_without_a_host_says_what_to_do(terminal: Terminal) -> None:
    said = terminal.slmgr("/sprt", "1688", "--json")
    assert (said.code, said.json["code"]) == (1, "not-set-up")
    assert "kmshost init" in said.json["detail"]
    assert terminal.slmgr("/sprt", "1688", "--role", "client", "--json").code == 2
    assert terminal.slmgr("/dli", "--role", "vamt", "--json").code == 2
    assert terminal.slmgr("--role", "kmshost", "--json").code == 2
