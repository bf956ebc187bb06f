"""What a machine printed, read or refused: whoever printed it (V2, T26)."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vamt.collecting.standins import CMID, PUBLISHER, product, status
from volact.protocol.problems import Refusal
from volact.vamt.collecting import answers
from volact.vamt.collecting.answers import first_line, of_run, of_status
from volact.vamt.collecting.targets import MOST_OUTPUT, Ran
from volact.vamt.inventory import Product, Report

GRANTED = int(datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp())


def read(value: Any) -> Report | Refusal:
    return of_status(value if isinstance(value, bytes) else json.dumps(value).encode())


def report(value: Any) -> Report:
    found = read(value)
    assert isinstance(found, Report), found
    return found


def refused(value: Any) -> str:
    found = read(value)
    assert isinstance(found, Refusal), found
    assert found.code == "answer-nonsense"
    assert found.detail.isprintable()
    return found.detail


def test_a_whole_answer_is_a_whole_report() -> None:
    grant = {"token": "t", "chain": ["a"], "roots": []}
    row = product(
        state=4, expires="2026-07-30T12:00:00Z", host="kms.corp.example:1688", iid="12345 67890", grant=grant
    )
    value = status("Web1", row, host_identity="host7.corp.example", running_instances=3)
    assert report(value) == Report(
        name="web1",
        domain="corp.example",
        platform="linux",
        system="Debian GNU/Linux 12 (bookworm)",
        identity="I" * 43,
        virtual=True,
        hypervisor="kvm",
        host_identity="host7.corp.example",
        instances=3,
        macs=("a4bb6d112233",),
        products=(
            Product(
                PUBLISHER,
                "com.example.cad",
                4,
                cmid=CMID,
                channel="mak",
                partial_key="A0001",
                granted=GRANTED,
                expires=GRANTED + 180 * 86_400,
                host="kms.corp.example:1688",
                iid="12345 67890",
                reason="activated",
                grant=grant,
            ),
        ),
    )


def test_an_older_client_says_nothing_of_the_machine_and_a_newer_one_more() -> None:
    assert report({"products": []}) == Report("")
    newer = {**status("web1", {**product(), "colour": "red"}, shape=[1]), "more": {"a": 1}}
    assert report(newer) == report(status("web1"))


def test_what_is_not_known_is_null() -> None:
    names = ("name", "domain", "system", "platform", "virtual", "hypervisor", "identity", "macs")
    empty = report({"products": [], "machine": dict.fromkeys(names)})
    assert empty == Report("")
    bare = dict.fromkeys(product(), None) | {"publisher": PUBLISHER, "product": "a.b", "state": 0}
    assert report({"products": [bare]}).products == (Product(PUBLISHER, "a.b", 0),)


@pytest.mark.parametrize(
    ("name", "domain", "wanted"),
    [
        ("web1", "corp.example", ("web1", "corp.example")),
        ("WEB1", "", ("web1", "")),
        ("", "corp.example", ("", "")),
        ("web1", "\x1b[2J", ("", "")),
        ("a b", "", ("", "")),
        ("x" * 64, "", ("", "")),
        ("192.0.2.1", "", ("", "")),
        ("localhost", "", ("", "")),
    ],
)
def test_a_name_that_is_none_is_left_out(name: str, domain: str, wanted: tuple[str, str]) -> None:
    found = report(status(name, domain=domain))
    assert (found.name, found.domain) == wanted


def test_macs_that_are_none_are_left_out_and_each_stands_once() -> None:
    macs = ["A4:BB:6D:11:22:33", "a4bb6d112233", "nothing", 7, None, "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"]
    assert report(status(macs=macs)).macs == ("a4bb6d112233",)


def test_texts_are_cut_and_cannot_steer_a_terminal() -> None:
    found = report(status(system="\x1b]0;owned\x07\u202e" + "x" * 10_000))
    assert found.system == "?]0;owned??" + "x" * (250 - 11) + "…"


@pytest.mark.parametrize("state", range(7))
def test_the_states_of_rule_e(state: int) -> None:
    assert report(status("m", product(state=state))).products[0].state == state


@pytest.mark.parametrize(
    "change",
    [
        {"state": -1},
        {"state": 7},
        {"state": True},
        {"state": "1"},
        {"state": None},
        {"state": 10**15},
        {"publisher": "P" * 42},
        {"publisher": None},
        {"publisher": 1},
        {"product": "no product"},
        {"product": ""},
        {"cmid": "x"},
        {"channel": "oem"},
        {"channel": ["mak"]},
        {"partial_key": "\x1b[31m"},
        {"partial_key": "ABCDEFGHJ"},
        {"granted": "yesterday"},
        {"granted": "2026-13-01T00:00:00Z"},
        {"granted": "0000-01-01T00:00:00Z"},
        {"granted": 7},
        {"expires": "2026-01-31T12:00:00+00:00"},
        {"expires": "٢026-01-31T12:00:00Z"},
        {"iid": "1" * 101},
        {"iid": "one"},
        {"host": {}},
        {"reason": 1},
        {"grant": "token"},
        {"grant": []},
    ],
)
def test_a_product_that_is_not_what_it_must_be_refuses_the_whole_answer(change: dict[str, Any]) -> None:
    refused(status("m", product(), product(product="com.example.two") | change))


@pytest.mark.parametrize(
    "change",
    [
        {"name": 1},
        {"domain": []},
        {"system": {"a": 1}},
        {"virtual": "yes"},
        {"virtual": 1},
        {"identity": "short"},
        {"running_instances": -1},
        {"running_instances": 1_000_001},
        {"running_instances": False},
        {"running_instances": "3"},
        {"macs": "a4bb6d112233"},
        {"macs": ["a4bb6d112233"] * 65},
    ],
)
def test_a_machine_that_is_not_what_it_must_be_refuses_the_whole_answer(change: dict[str, Any]) -> None:
    value = status("m")
    value["machine"] |= change
    refused(value)


@pytest.mark.parametrize(
    "change", [{"running_instances": 0}, {"running_instances": 1_000_000}, {"macs": ["a4bb6d112233"] * 64}]
)
def test_the_largest_that_may_be(change: dict[str, Any]) -> None:
    report(status("m", **change))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\0" * 10,
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{}",
        b"{]",
        b"\xff\xfe{}",
        b'\xef\xbb\xbf{"products": []}',
        b'{"products": [], "products": []}',
        b'{"products": [1e999]}',
        b'{"products": [NaN]}',
        b'{"products": ' + b"9" * 100_000 + b"}",
        b'{"products": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 50_000,
        b'{"products": [], "machine": {"name": "\\ud800"}}',
        b'{"products": []} trailing',
        {"products": {}},
        {"products": None},
        {"products": [[]]},
        {"products": ["x"]},
        {"products": [], "machine": []},
        {"products": [product(), product()]},
        {"products": [product(), product(state=3)]},
    ],
)
def test_hostile_answers(value: Any) -> None:
    refused(value)


def test_more_products_than_a_machine_has() -> None:
    def many(count: int) -> dict[str, Any]:
        row = {"publisher": PUBLISHER, "state": 0}
        return {"products": [{**row, "product": f"p{n}"} for n in range(count)]}

    assert len(report(many(1000)).products) == 1000
    assert "1000" in refused(many(1001))
    found = read(many(10_000))
    assert isinstance(found, Refusal)
    assert found.code == "answer-too-long"


@pytest.mark.parametrize(("length", "is_read"), [(MOST_OUTPUT, True), (MOST_OUTPUT + 1, False)])
def test_how_long_an_answer_may_be(length: int, is_read: bool) -> None:
    found = of_status(b'{"products": []}'.ljust(length))
    assert isinstance(found, Report) is is_read


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"", ""),
        (b" \n\t\n one \n two", "one"),
        (b"\x1b[31mred\x1b[0m\nmore", "?[31mred?[0m"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"x" * 251, "x" * 250 + "…"),
        (b"x" * 250, "x" * 250),
        (b"\0a", "?a"),
    ],
)
def test_the_first_line_for_people(data: bytes, wanted: str) -> None:
    assert first_line(data) == wanted


@pytest.mark.parametrize(
    ("ran", "code", "detail"),
    [
        (Ran(127, b"", b"no such thing"), "client-missing", "no such thing"),
        (Ran(126, b"said", b""), "client-missing", "said"),
        (Ran(125, b"", b""), "client-failed", "Exit code 125: nothing was said"),
        (Ran(128, b"out", b"err"), "client-failed", "Exit code 128: err"),
        (Ran(1, b'{"products": []}', b""), "client-failed", 'Exit code 1: {"products": []}'),
        (Ran(-1, b"", b""), "client-failed", "Exit code -1: nothing was said"),
        (Ran(0, b"hello", b""), "answer-nonsense", "not JSON; it begins: hello"),
    ],
)
def test_what_a_command_came_to(ran: Ran, code: str, detail: str) -> None:
    found = of_run(ran)
    assert isinstance(found, Refusal)
    assert (found.code, found.detail) == (code, detail)


def test_a_command_that_ended_well_is_read() -> None:
    assert of_run(Ran(0, b'{"products": []}', b"a remark")) == Report("")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = sorted(product()) + sorted(status()["machine"])


@given(st.binary(max_size=300))
def test_any_bytes_give_a_report_or_a_reason(data: bytes) -> None:
    assert isinstance(of_status(data), Report | Refusal)


@given(
    row=st.dictionaries(st.sampled_from(sorted(product())), JSON, max_size=3),
    machine=st.dictionaries(st.sampled_from(sorted(status()["machine"])), JSON, max_size=3),
)
def test_any_members_give_a_report_or_a_reason_and_nothing_that_steers(
    row: dict[str, Any], machine: dict[str, Any]
) -> None:
    value = status("m", product() | row)
    value["machine"] |= machine
    found = of_status(json.dumps(value).encode())
    if isinstance(found, Refusal):
        assert found.detail.isprintable()
        return
    texts = [one for one in (*found, *found.products[0]) if isinstance(one, str)]
    assert all(one.isprintable() and len(one) <= 256 for one in texts)
    assert answers.of_status(json.dumps(value).encode()) == found


@pytest.mark.parametrize(
    ("ran", "expected"),
    [
        (Ran(0, b'{"state": 1}'), {"state": 1}),
        (Ran(0, b"[1]"), "answer-nonsense"),
        (Ran(0, b""), "answer-nonsense"),
        (Ran(1, b"", b"sorry"), "client-failed"),
        (Ran(-1, b"", b""), "client-failed"),
        (Ran(127, b"", b"not found"), "client-missing"),
        (Ran(126, b'{"code": "key-blocked", "title": "t"}'), "client-missing"),
        (Ran(1, b'{"code": "key-blocked", "title": "t", "detail": "d"}'), "key-blocked"),
        (Ran(3, b'{"code": "from-the-future", "title": "t\\u001b[2J"}'), "from-the-future"),
        (Ran(1, b'{"code": 7, "title": "t"}'), "client-failed"),
        (Ran(1, b'{"code": "key-blocked"}'), "client-failed"),
    ],
)
def test_what_a_command_with_json_answered(ran: Ran, expected: object) -> None:
    found = answers.of_command(ran)
    if isinstance(found, Refusal):
        assert found.code == expected
        assert "\x1b" not in found.problem.sentence + found.detail
    else:
        assert found == expected
