"""Policy: PROTOCOL section 10's members and defaults, RULES.md's bounds (G5: value-1, value, value+1)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volact.protocol import policy
from volact.protocol.policy import OutOfBounds, Policy, Threshold

MINUTE, HOUR, DAY = 60, 3600, 24 * 3600

# PROTOCOL section 10, and K1, K4 to K7, M2, M5, M6, M9, S (/rearm 3).
DEFAULTS: dict[str, Any] = {
    "threshold_applies_to": "both",
    "validity": 180 * DAY,
    "renewal": 10080 * MINUTE,
    "retry": 120 * MINUTE,
    "record_lifetime": 30 * DAY,
    "count_group": "publisher",
    "strong_count": False,
    "forget_key": True,
    "initial_grace": 30 * DAY,
    "tolerance_grace": 30 * DAY,
    "non_genuine_grace": 30 * DAY,
    "warn_from": 150 * DAY,
    "rearms": 3,
    "rebuilds_per_year": 6,
    "moves_per_year": 1,
    "returns_per_year": 10,
    "status_check": False,
}
THRESHOLDS = {
    "client": [("machines", 25)],
    "server": [("servers", 5), ("machines", 25)],
}


@pytest.mark.parametrize("edition", ["client", "server"])
def test_every_default(edition: str) -> None:
    """PROTOCOL 10's table; K1: a server product from 5 servers or 25 machines, a client product from 25."""
    found = policy.read({}, edition)
    assert found.thresholds == tuple(Threshold(*one) for one in THRESHOLDS[edition])
    members = found._asdict()
    del members["thresholds"]
    assert members == DEFAULTS
    assert policy.of_edition(edition) == found


# What else must be set so that a bound of one member can be reached; RULES.md, second paragraph.
LONG = {"validity": 3650 * DAY}
BOUNDS: list[tuple[str, int, int, dict[str, Any]]] = [
    ("validity", HOUR, 3650 * DAY, {"renewal": 15 * MINUTE, "retry": 15 * MINUTE}),
    ("renewal", 15 * MINUTE, 30 * DAY, {**LONG, "retry": 15 * MINUTE, "record_lifetime": 365 * DAY}),
    (
        "renewal",
        15 * MINUTE,
        25 * DAY,
        {"validity": 100 * DAY, "retry": 15 * MINUTE, "record_lifetime": 365 * DAY},
    ),
    (
        "renewal",
        15 * MINUTE,
        25 * DAY,
        {"validity": 100 * DAY + 3, "retry": 15 * MINUTE, "record_lifetime": 60 * DAY},
    ),
    ("retry", 15 * MINUTE, 7 * DAY, {}),
    ("retry", 15 * MINUTE, DAY, {"renewal": DAY}),
    ("record_lifetime", 14 * DAY, 365 * DAY, {}),
    ("record_lifetime", 60 * DAY, 365 * DAY, {**LONG, "renewal": 30 * DAY}),
    ("initial_grace", 0, 365 * DAY, {}),
    ("tolerance_grace", 0, 365 * DAY, {}),
    ("non_genuine_grace", 0, 365 * DAY, {}),
    ("warn_from", 0, 180 * DAY, {}),
    ("rearms", 0, 100, {}),
    ("rebuilds_per_year", 0, 1000, {}),
    ("moves_per_year", 0, 1000, {}),
    ("returns_per_year", 0, 1000, {}),
]


@pytest.mark.parametrize(("member", "low", "high", "others"), BOUNDS)
def test_every_bound(member: str, low: int, high: int, others: dict[str, Any]) -> None:
    """RULES: validity 1 h to 3,650 d; renewal at most validity / 4, 15 min to 30 d; retry 15 min to renewal; record
    lifetime from 2 renewals to 365 d; graces 0 to 365 d; rearms 0 to 100; other counts 0 to 1,000.
    """
    for value in (low, low + 1, high - 1, high):
        assert getattr(policy.read({**others, member: value}, "client"), member) == value
    for value in (low - 1, high + 1):
        with pytest.raises(OutOfBounds) as caught:
            policy.read({**others, member: value}, "client")
        assert caught.value.member == member
        assert member in str(caught.value)


@pytest.mark.parametrize("count", ["machines", "servers"])
def test_threshold_bounds(count: str) -> None:
    """RULES: minimum 1 to 100,000."""
    for minimum in (1, 2, 99_999, 100_000):
        members = {"thresholds": [{"count": count, "minimum": minimum}]}
        assert policy.read(members, "client").thresholds == (Threshold(count, minimum),)
    wrong: list[object] = [0, 100_001, -1, True, 5.0, "5", None]
    for refused in wrong:
        with pytest.raises(OutOfBounds) as caught:
            policy.read({"thresholds": [{"count": count, "minimum": refused}]}, "client")
        assert caught.value.member == "thresholds"


ONE = {"count": "machines", "minimum": 25}


@pytest.mark.parametrize(
    "thresholds",
    [
        [],
        [ONE] * 9,
        {},
        "25",
        None,
        [25],
        [{"count": "machines"}],
        [{**ONE, "of": 1}],
        [{**ONE, "count": "users"}],
        [{**ONE, "count": []}],
    ],
)
def test_what_is_no_list_of_thresholds(thresholds: object) -> None:
    """K1: a list of alternatives, each {count: servers|machines, minimum: N}."""
    with pytest.raises(OutOfBounds):
        policy.read({"thresholds": thresholds}, "client")


def test_at_most_eight_thresholds() -> None:
    assert len(policy.read({"thresholds": [ONE] * 8}, "client").thresholds) == 8


@pytest.mark.parametrize("member", [name for name, value in DEFAULTS.items() if type(value) is int])
@pytest.mark.parametrize("value", [True, 1.0, "1", None, [], -1, 2**60])
def test_an_integer_is_an_integer(member: str, value: object) -> None:
    """PROTOCOL 1: a bool is no integer."""
    with pytest.raises(OutOfBounds):
        policy.read({member: value}, "client")


@pytest.mark.parametrize("member", ["strong_count", "forget_key", "status_check"])
def test_switches(member: str) -> None:
    for value in (True, False):
        assert getattr(policy.read({member: value}, "client"), member) is value
    for wrong in (0, 1, "true", None):
        with pytest.raises(OutOfBounds) as caught:
            policy.read({member: wrong}, "client")
        assert caught.value.member == member


@pytest.mark.parametrize(
    ("member", "good", "wrong"),
    [
        ("threshold_applies_to", ["both", "activation"], ["renewal", "", None, 1, ["both"]]),
        ("count_group", ["publisher", "com.example.suite", "a" * 64], ["", "a" * 65, "A", "a b", None, 1]),
    ],
)
def test_words(member: str, good: list[str], wrong: list[object]) -> None:
    """K5: threshold_applies_to is activation or both."""
    for value in good:
        assert getattr(policy.read({member: value}, "client"), member) == value
    for refused in wrong:
        with pytest.raises(OutOfBounds) as caught:
            policy.read({member: refused}, "client")
        assert caught.value.member == member


def test_unknown_members_are_ignored_by_a_verifier() -> None:
    """PROTOCOL 10: an unknown one is ignored by a verifier."""
    assert policy.read({"colour": "green", "rearms": 2}, "client") == policy.read({"rearms": 2}, "client")


@pytest.mark.parametrize(
    ("validity", "warn"), [(180 * DAY, 150 * DAY), (6 * DAY, 5 * DAY), (HOUR, 3000), (3601, 3000)]
)
def test_the_warning_begins_at_five_sixths_of_the_validity(validity: int, warn: int) -> None:
    """K7: from 5/6 of the validity (day 150) the client warns."""
    members = {"validity": validity, "renewal": 15 * MINUTE, "retry": 15 * MINUTE}
    assert policy.read(members, "client").warn_from == warn


whole = st.fixed_dictionaries(
    {},
    optional={
        "validity": st.integers(28 * DAY, 3650 * DAY),
        "retry": st.integers(15 * MINUTE, 7 * DAY),
        "rearms": st.integers(0, 100),
        "strong_count": st.booleans(),
        "initial_grace": st.integers(0, 365 * DAY),
        "threshold_applies_to": st.sampled_from(["both", "activation"]),
        "thresholds": st.lists(
            st.fixed_dictionaries(
                {"count": st.sampled_from(["machines", "servers"]), "minimum": st.integers(1, 100_000)}
            ),
            min_size=1,
            max_size=8,
        ),
    },
)


@given(whole, st.sampled_from(["client", "server"]))
def test_what_is_written_is_read(members: dict[str, Any], edition: str) -> None:
    """PROTOCOL 10: an absent member has its default; only what differs is written."""
    found = policy.read(members, edition)
    written = policy.written(found, edition)
    assert policy.read(written, edition) == found
    assert set(written) <= set(members)


def test_the_defaults_are_not_written() -> None:
    assert policy.written(policy.read({}, "server"), "server") == {}
    assert policy.written(policy.read({}, "server"), "client") == {
        "thresholds": [{"count": "servers", "minimum": 5}, {"count": "machines", "minimum": 25}]
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("180d", 180 * DAY), ("2h", 7200), ("15m", 900), ("0d", 0), ("12345678d", 12345678 * DAY)],
)
def test_durations(text: str, seconds: int) -> None:
    """Issue 2: durations <n>m, h, d."""
    assert policy.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "d", "180", "-1d", "1.5d", "1 d", "1D", "1w", "٣d", "123456789d", 180, None, "1dd"]
)
def test_what_is_no_duration(text: object) -> None:
    assert policy.duration(text) is None


def test_numbers_that_are_no_products_to_change() -> None:
    """K9, K16, M2, M6 and PROTOCOL 2, 3, 7, 8: each once, here."""
    assert (policy.HOSTS_PER_KEY, policy.ACTIVATIONS_PER_HOST, policy.DEFAULT_PORT) == (6, 10, 1688)
    assert policy.REBUILD_WINDOW == 365 * DAY
    assert (policy.HOST_DELEGATION_ONLINE, policy.HOST_DELEGATION_BY_FILE) == (90 * DAY, 400 * DAY)
    assert (policy.ISSUER_DELEGATION, policy.STATUS_DELEGATION) == (365 * DAY, 365 * DAY)
    assert (policy.CLOCK_TOLERANCE, policy.DOUBT_LIMIT, policy.RUNNING_SAVE) == (HOUR, 7 * DAY, 10 * MINUTE)
    assert (policy.REMAINING_PROOF, policy.RETURNED_ENTRY) == (90 * DAY, 400 * DAY)
    assert policy.BATCH_MOST == 100


def test_durations_are_the_members_counted_in_seconds() -> None:
    """PROTOCOL 10: seconds where a duration."""
    counts = {"rearms", "rebuilds_per_year", "moves_per_year", "returns_per_year"}
    seconds = {name for name, value in DEFAULTS.items() if type(value) is int} - counts
    assert set(policy.DURATIONS) == seconds
    assert set(Policy._fields) == {*DEFAULTS, "thresholds"}
