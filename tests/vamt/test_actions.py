"""V5: what an action is on a machine, when what waits is tried again, and when what is repeated is due."""

from __future__ import annotations

from typing import Any

import pytest

from volact.protocol.problems import PROBLEMS, Refusal
from volact.vamt import actions, people
from volact.vamt.actions import LEAST, Action
from volact.vamt.inventory import Product
from world import NOW, PRODUCT

PUB = "P" * 43
LABEL, OTHER = "M0001", "M0002"
MINUTE, HOUR, DAY = 60, 3600, 86400

# A machine's product in the ways in which it can be found.
FRESH = Product(PUB, PRODUCT, 2, channel="kms")
KEYED = Product(PUB, PRODUCT, 2, channel="mak", partial_key=LABEL)
ACTIVATED = Product(PUB, PRODUCT, 1, channel="mak", partial_key=LABEL, granted=NOW)
RETAILED = Product(PUB, PRODUCT, 1, channel="retail", partial_key="R0001", granted=NOW)
LEASED = Product(PUB, PRODUCT, 1, channel="kms", granted=NOW)
MOVED = Product(PUB, PRODUCT, 3, channel="mak", partial_key=LABEL, granted=NOW)
RETURNED = Product(PUB, PRODUCT, 0, channel="mak", partial_key=LABEL, reason="activation-returned")
DROPPED = Product(PUB, PRODUCT, 1, granted=NOW)  # activated by a file, without a key of its own
WINDOWS = Product("microsoft", "windows", 1, channel="kms")

INSTALL = f"volact client install-key --product {PRODUCT} - --json"
ACTIVATE = f"volact client activate --product {PRODUCT} --json"
ATO = f"slmgr /ato {PRODUCT} --role client --json"
UPK = f"slmgr /upk {PRODUCT} --role client --json"
RETURN = f"volact client return --product {PRODUCT} --json"
CKMS = f"slmgr /ckms {PRODUCT} --role client --json"

NAMED = "K" * 43


def told(action: Action, there: Product | None, label: str = LABEL, *, again: bool = False) -> Any:
    """The commands, each as one line, or the code of the refusal."""
    found = actions.steps(action, there, label, again=again)
    if isinstance(found, Refusal):
        return found.code
    assert [one.takes_key for one in found] == ["install-key" in one.words for one in found]
    return [" ".join((one.program, *one.words)) for one in found]


@pytest.mark.parametrize(
    ("action", "there", "again", "expected"),
    [
        # A recommended key is for who has no permanent activation.
        (Action("install-key"), FRESH, False, [INSTALL]),
        (Action("install-key"), KEYED, False, [INSTALL]),
        (Action("install-key"), KEYED, True, []),
        (Action("install-key"), ACTIVATED, False, []),
        (Action("install-key"), RETAILED, False, []),
        (Action("install-key"), LEASED, False, [INSTALL]),
        (Action("install-key"), MOVED, False, [INSTALL]),
        (Action("install-key", activate=True), FRESH, False, [INSTALL, ACTIVATE]),
        (Action("install-key", activate=True), KEYED, False, [INSTALL, ACTIVATE]),
        (Action("install-key", activate=True), KEYED, True, [INSTALL, ACTIVATE]),
        (Action("install-key", activate=True), ACTIVATED, True, []),
        # One that was named goes where it is not.
        (Action("install-key", key=NAMED), RETAILED, False, [INSTALL]),
        (Action("install-key", key=NAMED), RETAILED, True, [INSTALL]),
        (Action("install-key", key=NAMED), ACTIVATED, False, []),
        (Action("install-key", key=NAMED), KEYED, False, [INSTALL]),
        (Action("activate-online"), KEYED, False, [ACTIVATE]),
        (Action("activate-online"), MOVED, False, [ACTIVATE]),
        (Action("activate-online"), ACTIVATED, False, []),
        (Action("activate-online"), RETAILED, False, []),
        (Action("activate-online"), FRESH, False, "no-key-installed"),
        (Action("activate-online"), DROPPED, False, "no-key-installed"),
        (Action("activate-kms"), FRESH, False, [ATO]),
        (Action("activate-kms"), LEASED, False, [ATO]),
        (Action("activate-kms"), LEASED, True, []),
        (Action("activate-kms"), FRESH, True, [ATO]),
        (Action("activate-kms"), KEYED, False, "key-in-the-way"),
        (Action("activate-kms"), DROPPED, False, "key-in-the-way"),
        (Action("deactivate"), ACTIVATED, False, [RETURN]),
        (Action("deactivate"), MOVED, False, [RETURN]),
        (Action("deactivate"), DROPPED, False, [RETURN]),
        (Action("deactivate"), LEASED, False, "nothing-to-return"),
        (Action("deactivate"), FRESH, False, "nothing-to-return"),
        (Action("deactivate"), KEYED, False, "nothing-to-return"),
        (Action("deactivate"), RETURNED, False, "activation-returned"),
        (Action("deactivate"), RETURNED, True, []),
        (Action("remove-key"), ACTIVATED, False, [UPK]),
        (Action("remove-key"), ACTIVATED, True, [UPK]),
        (Action("remove-key"), FRESH, False, "no-key-installed"),
        (Action("remove-key"), FRESH, True, []),
        (Action("clear-host"), FRESH, False, [CKMS]),
        (Action("clear-host"), ACTIVATED, True, [CKMS]),
        (Action("refresh-status"), FRESH, False, []),
        (Action("refresh-status"), None, False, []),
        (Action("install-key"), None, False, "product-not-installed"),
        (Action("activate-online"), WINDOWS, False, "transport-reads-only"),
    ],
)
def test_what_a_machine_is_told(action: Action, there: Product | None, again: bool, expected: Any) -> None:
    assert told(action, there, again=again) == expected


def test_a_machine_for_which_no_key_is_left_is_told_none() -> None:
    for there in (FRESH, LEASED):
        assert told(Action("install-key"), there, "") == "no-activations-left"
    assert told(Action("install-key", key=NAMED), ACTIVATED, OTHER) == [INSTALL]


@pytest.mark.parametrize(
    ("host", "domain", "expected"),
    [
        ("kms1:1689", "", ["/skms kms1:1689"]),
        ("", "corp.example", ["/skms-domain corp.example"]),
        ("kms1", "corp.example", ["/skms kms1", "/skms-domain corp.example"]),
    ],
)
def test_what_sets_a_host(host: str, domain: str, expected: list[str]) -> None:
    lines = [f"slmgr {one} {PRODUCT} --role client --json" for one in expected]
    assert told(Action("set-host", host=host, domain=domain), ACTIVATED) == lines


def test_who_may_is_said_of_each_action() -> None:
    assert set(LEAST.values()) <= set(people.LEAST)
    operators = {name for name in LEAST if people.may("operator", Action(name).least)}
    assert operators == {"activate-online", "activate-kms", "set-host", "clear-host", "refresh-status"}
    assert all(people.may("key-administrator", Action(name).least) for name in LEAST)
    assert not any(people.may("viewer", Action(name).least) for name in LEAST)


@pytest.mark.parametrize(
    "action",
    [
        Action("install-key", PRODUCT, NAMED, activate=True),
        Action("set-host", host="kms1", domain="corp.example"),
        Action("refresh-status"),
    ],
)
def test_an_action_is_read_as_it_was_said(action: Action) -> None:
    assert actions.read({**action.said(), "queue": True, "role": "operator", "at": 7200}) == action
    assert actions.wrong(action) == ""


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (Action("format-disk"), "There is no action 'format-disk'"),
        (Action("set-host"), "neither a host nor a domain"),
        (Action("set-host", host="http://kms1"), "is no NAME"),
        (Action("set-host", host="kms1; reboot"), "is no NAME"),
        (Action("set-host", domain="a b"), "is no domain"),
        (Action("clear-host", host="kms1"), "goes with set-host"),
        (Action("activate-kms", domain="corp.example"), "goes with set-host"),
        (Action("activate-online", key=NAMED), "a key with install-key"),
        (Action("remove-key", activate=True), "a key with install-key"),
    ],
)
def test_what_is_given_wrongly_is_said(action: Action, said: str) -> None:
    assert said in actions.wrong(action)


@pytest.mark.parametrize(
    "text",
    [
        "kms1",
        "kms1.corp.example:1",
        "KMS1:65535",
        ":1688",
        "192.0.2.1",
        "192.0.2.1:1688",
        "[2001:db8::1]",
        "[2001:db8::1]:1688",
    ],
)
def test_a_hosts_address(text: str) -> None:
    assert actions.is_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":0",
        ":65536",
        "kms1:",
        "kms1:x",
        "kms1:１",
        "kms1:123456",
        "2001:db8::1",
        "[2001:db8::1",
        "[kms1]",
        "[192.0.2.1]",
        "[2001:db8::1]1688",
        "-kms1",
        "kms1/x",
        "a b",
        "192.0.2.256",
        "kms1:-1",
        "$(id)",
    ],
)
def test_what_is_no_hosts_address(text: str) -> None:
    assert not actions.is_host(text)


def test_over_winrm_machines_are_asked_and_told_nothing() -> None:
    assert actions.is_out_of_reach("winrm", Action("refresh-status")) is None
    refused = actions.is_out_of_reach("winrm", Action("activate-online"))
    assert refused
    assert refused.code == "transport-reads-only"
    assert actions.is_out_of_reach("ssh", Action("activate-online")) is None


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("changed", [True, False])
def test_every_action_says_what_it_did(name: str, changed: bool) -> None:
    action = Action(name, activate=name == "install-key", host="kms1" if name == "set-host" else "")
    said = actions.done(action, LABEL, changed=changed)
    assert said.endswith(".")
    assert (said == "It was so already; nothing was changed.") is (not changed and name != "refresh-status")


def test_a_set_host_says_what_it_set() -> None:
    assert actions.done(Action("set-host", domain="a.example"), "", changed=True) == (
        "KMS hosts are looked for in a.example."
    )
    assert actions.done(Action("install-key"), LABEL, changed=True) == "The key ...-M0001 is installed."


def test_what_is_next_is_known_of_every_code_and_of_a_newer_ones() -> None:
    assert actions.next_step("timed-out") == PROBLEMS["timed-out"].next_step
    assert actions.next_step("from-the-future") == "Ask on the machine what it means."
    assert actions.sentence("timed-out", "30 s.") == "The machine did not answer in time. 30 s."
    assert actions.sentence("from-the-future", "Not yet.") == "Not yet."
    title = actions.sentence("returned-too-soon", "")
    assert actions.sentence("returned-too-soon", title) == title, "a machine's answer says it in full"


def test_what_may_wait_is_what_a_machine_that_is_off_comes_to() -> None:
    waits = {code for code in PROBLEMS if actions.may_wait(code)}
    assert {"unreachable-name", "unreachable-port", "timed-out", "in-use", "machine-in-use"} <= waits
    for code in (
        "host-key-changed",
        "credential-refused",
        "key-blocked",
        "no-activations-left",
        "client-missing",
    ):
        assert code not in waits


# A quarter of an hour, twice as long each time, no longer than 6 hours; 100 tries; 30 days.
@pytest.mark.parametrize(
    ("tries", "wait"),
    [(0, 15), (1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 360), (7, 360), (50, 360), (99, 360)],
)
def test_what_waits_is_tried_ever_more_seldom(tries: int, wait: int) -> None:
    assert actions.next_try(NOW, tries, NOW + 30 * DAY) == NOW + wait * MINUTE


def test_what_waits_is_given_up() -> None:
    until = NOW + 30 * DAY
    assert actions.next_try(NOW, 100, until) is None
    assert actions.next_try(NOW, 101, until) is None
    assert actions.next_try(until - 1, 50, until) == until
    assert actions.next_try(until, 50, until) is None
    assert actions.next_try(until + 1, 50, until) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("2h", 7200),
        ("1d", DAY),
        ("365d", 365 * DAY),
        ("14m", None),
        ("366d", None),
        ("1w", None),
        ("", None),
        ("d", None),
        ("-1d", None),
        ("1.5h", None),
        ("0d", None),
    ],
)
def test_intervals(text: str, seconds: int | None) -> None:
    assert actions.every(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00", 0),
        ("02:00", 7200),
        ("23:59", DAY - 60),
        ("24:00", None),
        ("12:60", None),
        ("2:00", None),
        ("02:0", None),
        ("0200", None),
        ("", None),
        ("02:00:00", None),
        ("ab:cd", None),
        ("٠٢:٠٠", None),
    ],
)
def test_times_of_day(text: str, seconds: int | None) -> None:
    assert actions.time_of_day(text) == seconds


def test_the_first_time_is_the_next_time_of_day_or_after_one_interval() -> None:
    midnight = NOW - NOW % DAY
    assert actions.first(NOW, HOUR, None) == NOW + HOUR
    assert actions.first(midnight + 7199, DAY, 7200) == midnight + 7200
    assert actions.first(midnight + 7200, DAY, 7200) == midnight + DAY + 7200
    assert actions.first(midnight + 7201, 7 * DAY, 7200) == midnight + DAY + 7200


def test_what_was_missed_is_done_once_and_keeps_its_rhythm() -> None:
    assert actions.following(NOW, DAY, NOW) == NOW + DAY
    assert actions.following(NOW, DAY, NOW + DAY - 1) == NOW + DAY
    assert actions.following(NOW, DAY, NOW + DAY) == NOW + 2 * DAY
    assert actions.following(NOW, DAY, NOW + 10 * DAY + 5) == NOW + 11 * DAY
