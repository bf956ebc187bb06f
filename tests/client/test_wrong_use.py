"""What an administrator gets wrong, or finds wrong: said plainly, without a traceback, and without a key (M8)."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from client.commands import Terminal
from client.machine import Machine, refused
from client.publisher import PRODUCT, Publisher
from volact import console
from volact.calls import problem_of
from volact.client import cli, events, reporting, running
from volact.clock import ClockInvalid, moved
from volact.protocol.problems import BrokenData, Refusal, Refused


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(tmp_path, monkeypatch, capsys)


class Bytes(io.TextIOWrapper):
    """Standard input of a strict locale."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="strict")


@pytest.mark.parametrize("typed", ["{key}", "{mistyped}", "{bare}", "{lower}"])
@pytest.mark.parametrize(
    "words",
    [
        ["/ipk", PRODUCT, "KEY"],
        ["/ato", "KEY"],
        ["KEY"],
        ["client", "install-key", PRODUCT, "KEY"],
        ["client", "activate", "--product", "KEY"],
        ["client", "activate", "KEY"],
        ["client", "KEY"],
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(terminal: Terminal, words: list[str], typed: str) -> None:
    """M8: of a key nothing but the last group is ever shown."""
    key = terminal.installed().publisher.key().text()
    bare = key.replace("-", "")
    word = typed.format(key=key, mistyped=key[:-1], bare=bare, lower=key.lower())
    words = [word if one == "KEY" else one for one in words]
    run = terminal.client if words[0] == "client" else terminal.slmgr
    said = run(*(words[1:] if words[0] == "client" else words), "--json")
    assert said.code in (1, 2)
    shown = (said.out + said.err).upper().replace("-", "")
    assert bare[:5] not in shown
    assert bare[5:15] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "bdSoxaAwTxu5oWrwGsYxGqEUFf_RmWy_OM13uRL09zM",
        "AGsFTrw6moKCjjFqKzUOMQ",
        "com.example.cad is not.",
        "-" + "B" * 42,
        "4c4c4544-0042-3510-8052-b4c04f484e31",
    ],
)
def test_what_is_no_key_is_shown_as_it_is(text: str) -> None:
    assert console.without_keys(text) == text


def test_input_that_is_not_text_is_a_plain_message(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.installed()
    for run, words in ((terminal.client, ["install-key", "-"]), (terminal.slmgr, ["/atp", "-"])):
        monkeypatch.setattr("sys.stdin", Bytes(b"\xff\xfe"))
        said = run(*words, "--json")
        assert (said.code, said.json["code"]) == (4, "not-readable")


def test_a_key_file_of_another_system_is_read(terminal: Terminal) -> None:
    key = terminal.installed().publisher.key()
    file = terminal.file("key.txt", b"\xef\xbb\xbf" + key.text().encode() + b"\r\n")
    assert terminal.client("install-key", "@" + file).code == 0


def test_a_name_that_is_too_long_is_no_confirmation(terminal: Terminal) -> None:
    said = terminal.installed().slmgr("/atp", "x" * 5000, "--json")
    assert (said.code, said.json["code"]) == (4, "not-readable")


def test_a_request_that_cannot_be_written_names_its_own_file(terminal: Terminal) -> None:
    terminal.installed().slmgr("/ipk", terminal.publisher.key().text())
    for name in ("no-such-folder/request", "home"):
        file = str(terminal.folder / name)
        said = terminal.slmgr("/dti", file, "--json")
        assert (said.code, said.json["code"]) == (4, "not-writable")
        assert f"{file}:" in said.json["detail"]


def test_what_the_json_says_to_do_next_is_what_the_prose_says(terminal: Terminal) -> None:
    said = terminal.client("explode", "--json")
    assert said.json["next"] in said.err


def test_options_are_given_whole(terminal: Terminal) -> None:
    """An abbreviated --json would print prose where a program waits for JSON."""
    assert terminal.client("status", "--js").code == 2


@pytest.mark.parametrize("text", ["", "soon", "+9999999999999d", "999999999999999999", "-999999d", None])
def test_a_laboratory_s_clock_file_that_holds_no_time_is_named(
    terminal: Terminal, text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.installed()
    path = terminal.folder / "clock"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("VOLACT_LAB_CLOCK", str(path))
    for said in (terminal.client("status", "--json"), terminal.slmgr("/ato", "--json")):
        assert said.code == 2
        assert str(path) in said.json["detail"]


def test_the_last_moment_that_can_be_shown_is_one() -> None:
    assert moved("9999-12-31T23:59:59Z", 0) == 253402300799


def test_odd_lines_of_the_event_log_are_left_out(terminal: Terminal) -> None:
    terminal.installed()
    whole = dict.fromkeys(events.Event._fields, 0)
    odd: list[Any] = [
        {"time": 5},
        {**whole, "time": 10**18},
        {**whole, "client_time": "x"},
        {**whole, "time": True},
    ]
    log = terminal.folder / "home" / "client" / events.FILE
    log.write_text("\n".join(json.dumps(one) for one in [*odd, whole]))
    assert [one["time"] for one in terminal.client("events", "--json").json] == ["1970-01-01T00:00:00Z"]


def test_an_event_log_that_was_cut_takes_further_events(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    log = tmp_path / "client" / events.FILE
    log.write_bytes(b"\0" * (events.MOST_BYTES + 1))
    event = events.Event(*[0] * len(events.Event._fields))  # type: ignore[arg-type]
    events.append(str(tmp_path), event)
    assert len(events.read([str(tmp_path)])) == 1
    log.write_bytes(b'{"time"')
    events.append(str(tmp_path), event)
    assert len(events.read([str(tmp_path)])) == 1


@pytest.mark.parametrize("command", ["status", "events"])
def test_a_folder_that_cannot_be_read_is_not_an_empty_one(
    terminal: Terminal, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.installed()

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", denied)
    monkeypatch.setattr(Path, "read_bytes", denied)
    said = terminal.client(command, "--json")
    assert (said.code, said.json["code"]) == (4, "not-readable")


@pytest.mark.parametrize("name", ["root.json", "product.json", "grant.json", "state.json"])
def test_a_damaged_file_comes_with_what_mends_it(tmp_path: Path, name: str) -> None:
    machine = Machine(tmp_path, Publisher(lab=False)).activated(forget_key=False)
    machine.file(name).write_bytes(b"{")
    with pytest.raises(BrokenData) as caught:
        machine.client.activate()
    advice = caught.value.refusal.detail
    if "Installing" in advice:
        machine.install()
    elif "Remove it" in advice:
        machine.file(name).unlink()
    else:
        assert "`volact client generalize`" in advice
        machine.client.generalize()
    assert machine.client.activate().standing.licensed


def test_without_a_key_there_is_no_question_and_without_a_host_a_refusal_that_says_where_was_looked(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, Publisher())
    machine.install()
    detail = refused("host-not-found", machine.client.activate).detail
    assert detail == "_volact._tcp.corp.test: there is no such record."
    refused("no-key-installed", machine.client.question)


def test_an_event_without_an_address_has_no_host(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher())
    machine.client.install(machine.publisher.product_file(), machine.publisher.pub)
    machine.client.install_key(machine.publisher.key().text())
    refused("authority-unreachable", machine.client.activate)
    assert {one["host"] for one in events.read([str(tmp_path)])} == {""}


def test_a_service_outlives_a_tick_that_cannot_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, Publisher())
    errors: list[Exception] = [
        Refused(Refusal("in-use")),
        OSError(28, "No space left on device"),
        ClockInvalid(""),
    ]
    failed, stopping = list(errors), threading.Event()

    def tick(*_: object, at_start: bool, **__: object) -> None:
        if errors:
            raise errors.pop(0)
        assert at_start, "the first tick that succeeds is the start"
        stopping.set()

    monkeypatch.setattr(running, "tick", tick)
    monkeypatch.setattr(running, "TICK", 0)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("threading.Event", lambda: stopping)
    reports: list[Exception] = []
    running.run(machine.client, lambda _where, error: reports.append(error), wait=0)
    assert reports == failed


def test_a_service_that_ends_answers_in_json(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run", lambda *_: None)
    assert terminal.installed().client("run", "--json").json["products"][0]["product"] == PRODUCT


@pytest.mark.parametrize(("mode", "code"), [("all", "machine-blocked"), ("returned", "activation-returned")])
def test_ato_on_what_the_publisher_took_away_is_no_success(
    terminal: Terminal, mode: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M5: the machine learns it at its own call, and its administrator at the same moment."""
    machine = Machine(terminal.folder / "home", terminal.publisher).activated()
    monkeypatch.setattr(cli, "client", lambda: machine.client)
    grant = machine.client.open(terminal.publisher.pub).grant(PRODUCT)
    assert grant
    machine.authority.list = terminal.publisher.status_list(("act", grant.document["act"], mode))
    said = terminal.slmgr("/ato", "--json")
    assert (said.code, said.json["code"]) == (1, code)
    again = terminal.client("activate", "--json")
    # A blocked machine has nothing to ask for by itself; one that gave its activation back needs its key again.
    assert again.json["code"] == ("machine-blocked" if mode == "all" else "no-key-installed")


def test_a_confirmation_without_a_key_is_no_kms_client(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher()).activated()
    machine.file("key.json").unlink()
    (row,) = reporting.rows([machine.store], machine.around)
    assert row.members["channel"] is None


def test_a_policy_that_allows_fewer_resets_than_were_made_leaves_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path, Publisher())
    machine.install()
    for _ in range(3):
        machine.client.rearm()
    machine.install(ver=2, rearms=1)
    (row,) = reporting.rows([machine.store], machine.around)
    assert row.rearms_left == 0


def test_an_ordinary_user_is_told_who_may_change_the_system_s_installation(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `/dli` shows and `/ato` may not change is not called "not installed"."""
    terminal.installed()
    monkeypatch.delenv("VOLACT_HOME")
    monkeypatch.setattr("volact.config.SYSTEM_HOME", str(terminal.folder / "home"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(terminal.folder / "user"))
    assert terminal.slmgr("/dli").code == 0
    for said in (terminal.slmgr("/ato", "--json"), terminal.client("install-key", "x", "--json")):
        assert (said.code, said.json["code"]) == (4, "not-writable")
        assert "administrator" in said.json["detail"]
    assert terminal.slmgr("/ato", "com.example.none", "--json").json["code"] == "product-not-installed"


def test_a_problem_s_sentence_is_said_once() -> None:
    refusal = problem_of(Refusal("machine-blocked").document())
    assert refusal
    assert str(refusal) == str(Refusal("machine-blocked"))


def test_a_key_that_is_not_the_activation_s_is_said_to_be_none(tmp_path: Path) -> None:
    """Licensed by one key, another installed: nobody shall think that the new one is activated."""
    machine = Machine(tmp_path, Publisher()).activated()
    (row,) = reporting.rows([machine.store], machine.around)
    assert not any("another key" in line for line in reporting.lines(row))
    machine.client.install_key(machine.publisher.key("retail", 2).text())
    (row,) = reporting.rows([machine.store], machine.around)
    assert any("R0002 is not activated" in line and "another key" in line for line in reporting.lines(row))
    machine.client.activate()
    (row,) = reporting.rows([machine.store], machine.around)
    assert not any("another key" in line for line in reporting.lines(row))
