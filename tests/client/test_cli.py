"""``volact client ...``: shapes, exit codes, one JSON value, no traceback, no key shown (DESIGN section 5)."""

import io
import json
import stat
from pathlib import Path

import pytest

from client.commands import Terminal
from client.publisher import PRODUCT, Publisher
from client.server import Server, send
from volact.protocol import jws

STATUS = (
    "publisher cmid product state state_name channel partial_key granted expires next_try host iid virtual reason grant"
).split()


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capsys)


def test_the_status_has_exactly_the_shape_of_the_design(terminal: Terminal) -> None:
    (row,) = terminal.installed().client("status", "--json").json["products"]
    assert list(row) == STATUS
    assert (row["publisher"], row["product"]) == (terminal.publisher.pub, PRODUCT)
    assert (row["state"], row["state_name"], row["channel"]) == (2, "Initial grace", "kms")
    assert row["expires"].endswith("Z")
    assert [row[name] for name in ("partial_key", "granted", "next_try", "host", "iid", "grant")] == [
        None
    ] * 6
    assert row["virtual"] is False


MACHINE = (
    "name domain system platform virtual hypervisor container identity host_identity running_instances macs"
).split()


def test_the_status_says_what_the_machine_is_for_who_collects(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """V2. A laboratory's machine may be made up where there are laboratory products only."""
    own = terminal.client("status", "--json").json["machine"]
    assert list(own) == MACHINE
    facts = tmp_path / "made-up.json"
    facts.write_text(
        json.dumps({"uuid": "8f3c2c6e-91a5-4c9e-9d11-6f5a1d1f6e01", "name": "Web7.corp.example"})
    )
    monkeypatch.setenv("VOLACT_MACHINE_FACTS", str(facts))
    assert terminal.client("status", "--json").json["machine"] == own
    made_up = terminal.installed().client("status", "--json").json["machine"]
    assert (made_up["name"], made_up["domain"]) == ("web7", "corp.example")
    assert made_up["identity"] != own["identity"]
    terminal.publisher = Publisher(lab=False, iat=terminal.publisher.iat)
    assert terminal.installed().client("status", "--json").json["machine"] == own


def test_without_products_there_is_nothing_to_show(terminal: Terminal) -> None:
    assert terminal.client("status", "--json").json["products"] == []
    assert terminal.client("status").out == "No product is installed.\n"
    assert terminal.client("events", "--json").json == []
    assert terminal.client("run", "--once", "--json").json["products"] == []
    assert terminal.client("generalize", "--json").json == {"products": []}


@pytest.mark.parametrize("how", ["word", "stdin", "file"])
def test_a_key_is_given_as_a_word_a_file_or_on_standard_input_and_only_its_last_group_is_shown(
    terminal: Terminal, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = terminal.installed().publisher.key()
    word = {"word": key.text(), "stdin": "-", "file": "@" + terminal.file("key", key.text().encode())}[how]
    monkeypatch.setattr("sys.stdin", io.StringIO(key.text() + "\n"))
    said = terminal.client("install-key", word)
    assert said.code == 0
    assert "M0001" in said.out
    assert not any(group in said.out + said.err for group in key.text().split("-")[:4])
    row = terminal.client("status", "--json").json["products"][0]
    assert (row["channel"], row["partial_key"]) == ("mak", "M0001")


def test_a_mistyped_key_is_never_repeated(terminal: Terminal) -> None:
    text = terminal.installed().publisher.key().text()
    wrong = "ZZZZZ" + text[5:]
    said = terminal.client("install-key", wrong, "--json")
    assert said.code == 1
    assert said.json["code"] == "key-mistyped"
    assert not any(group in said.out + said.err for group in ["ZZZZZ", *text.split("-")[1:4]])


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["activate"], "host-not-found", 1),
        (["activate", "--product", "com.example.none"], "product-not-installed", 1),
        (["install", "{product}", "--root", "B" * 43], "root-mismatch", 1),
        (["install", "{product}", "--root", "nobody"], "usage", 2),
        (["install", "{product}"], "usage", 2),
        (["install", "no-such-file", "--root", "B" * 43], "not-readable", 4),
        (["install", "{facts}", "--root", "B" * 43], "document-refused", 1),
        (["install-key", "@no-such-file"], "not-readable", 4),
        (["install-key", "@{binary}"], "not-readable", 4),
        (["events", "--since", "yesterday"], "usage", 2),
        (["events", "--since", "2026-01-01T00:00:00"], "usage", 2),
        (["explode"], "usage", 2),
        ([], "usage", 2),
    ],
)
def test_every_refusal_has_its_code_and_exit_code(
    terminal: Terminal, words: list[str], code: str, exit_code: int
) -> None:
    terminal.installed()
    names = {
        "product": str(terminal.folder / f"{PRODUCT}.volact-product"),
        "facts": str(terminal.folder / "facts.json"),
        "binary": terminal.file("binary", b"\xff\xfe\x00"),
    }
    said = terminal.client(*[word.format(**names) for word in words], "--json")
    assert said.code == exit_code
    assert said.json["code"] == code
    assert said.json["next"]
    assert code in said.err


def test_a_publisher_id_may_begin_with_a_hyphen(terminal: Terminal) -> None:
    file = terminal.file("p", terminal.publisher.product_file())
    said = terminal.client("install", file, "--root", "-" + "B" * 42, "--json")
    assert said.json["code"] == "root-mismatch"
    assert terminal.client("install", file, "--root", "--json").json["code"] == "usage"


def test_help_says_what_there_is(terminal: Terminal) -> None:
    said = terminal.client("--help")
    assert said.code == 0
    assert all(
        f" {name}" in said.out for name in ("install", "install-key", "activate", "status", "events", "run")
    )
    assert terminal.client("run", "--help").code == 0


@pytest.mark.sockets
def test_an_authority_that_is_not_there_is_exit_code_3_and_an_event(terminal: Terminal) -> None:
    terminal.installed().client("install-key", terminal.publisher.key().text())
    for words in (["activate"], ["run", "--once"]):
        said = terminal.client(*words, "--json")
        assert said.code == 3
        assert said.json["code"] == "authority-unreachable"
    found = terminal.client("events", "--json").json
    assert [(one["event"], one["result"]) for one in found[:2]] == [
        (12288, ""),
        (12289, "authority-unreachable"),
    ]
    assert found[0]["time"].endswith("Z")
    assert terminal.client("events", "--since", "1h", "--json").json == found
    assert terminal.client("events", "--since", "2999-01-01T00:00:00Z", "--json").json == []
    assert "12289" in terminal.client("events").out
    assert terminal.client("status", "--json").json["products"][0]["next_try"]


@pytest.mark.sockets
def test_an_activation_is_answered_with_the_product_s_row(terminal: Terminal) -> None:
    with Server(terminal.folder / "tls", terminal.publisher) as server:
        terminal.installed(url=server.url, tls=(server.pin,))
        terminal.client("install-key", terminal.publisher.key().text())
        row = terminal.client("activate", "--json").json
        assert list(row) == STATUS
        assert (row["state"], row["granted"][-1], row["expires"]) == (1, "Z", None)
        assert row["grant"].keys() == {"token", "chain", "roots"}
        server.misbehave = lambda handler: send(handler, 503, b"")
        said = terminal.client("activate")
        assert said.code == 0
        assert "never: permanently activated" in said.out
        assert "status list was not fetched" in said.err


def test_this_container_is_not_activated_for_a_real_publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Facts of the real machine, whatever file is named."""
    if not Path("/.dockerenv").exists():
        pytest.skip("this is no container")
    terminal = Terminal(tmp_path, monkeypatch, capsys, lab=False).installed()
    terminal.client("install-key", terminal.publisher.key().text())
    said = terminal.client("activate", "--json")
    assert (said.code, said.json["code"]) == (1, "machine-is-container")


def test_a_malformed_facts_file_is_broken_data_and_named(terminal: Terminal) -> None:
    terminal.installed()
    terminal.facts({"uuid": 7})
    said = terminal.client("run", "--once", "--json")
    assert said.code == 4
    assert "uuid" in said.json["detail"]
    row = terminal.client("status", "--json").json["products"][0]
    assert (row["state"], row["reason"]) == (0, "data-broken")


def test_a_damaged_store_is_shown_and_its_file_named(terminal: Terminal) -> None:
    terminal.installed()
    path = terminal.folder / "home/client" / terminal.publisher.pub / "state.json"
    path.write_bytes(b"{")
    said = terminal.client("status")
    assert said.code == 0
    assert "state.json" in said.out
    said = terminal.client("activate", "--json")
    assert (said.code, said.json["code"]) == (4, "data-broken")
    assert "state.json" in said.json["detail"]


def test_a_home_that_cannot_be_written_is_a_plain_message(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = terminal.file("p", terminal.publisher.product_file())
    monkeypatch.setenv("VOLACT_HOME", str(terminal.folder / "facts.json" / "home"))
    said = terminal.client("install", file, "--root", terminal.publisher.pub, "--json")
    assert (said.code, said.json["code"]) == (4, "not-writable")
    assert "facts.json" in said.json["detail"]


@pytest.mark.sockets
def test_generalize_says_whether_a_key_is_in_the_image(terminal: Terminal) -> None:
    terminal.installed().client("install-key", terminal.publisher.key().text())
    assert "its key is in the image" in terminal.client("generalize").out
    assert terminal.client("status", "--json").json["products"][0]["reason"] == "not-started"
    assert terminal.client("run", "--once").code == 3


def test_the_service_is_run(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    from volact.client import running
    from volact.protocol.problems import Refusal, Refused

    def run(_client: object, report: object) -> None:
        report("com.example.cad", Refused(Refusal("key-blocked")))  # type: ignore[operator]
        report("com.example.cad", OSError(28, "No space left on device"))  # type: ignore[operator]

    monkeypatch.setattr(running, "run", run)
    said = terminal.client("run")
    assert said.code == 0
    assert "key-blocked" in said.err
    assert "not-writable" in said.err


def test_two_publishers_live_side_by_side(terminal: Terminal) -> None:
    other = Publisher()
    terminal.installed()
    file = terminal.file("other", other.product_file())
    root = terminal.file("root.json", jws.write_json(other.root_1))
    assert terminal.client("install", file, "--root", root).code == 0
    assert len(terminal.client("status", "--json").json["products"]) == 2
    assert terminal.client("activate", "--json").json["code"] == "product-ambiguous"


def test_the_key_file_is_private(terminal: Terminal) -> None:
    terminal.installed().client("install-key", terminal.publisher.key().text())
    (path,) = (terminal.folder / "home").rglob("key.pem")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.with_name("key.json").read_bytes())["label"] == "M0001"
