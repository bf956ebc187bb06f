"""Rule E: the states of a product, second by second (G5); M5's, M9's and the initial 30 days."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.publisher import EPOCH
from volact.client import lifecycle
from volact.client.lifecycle import Situation, standing
from volact.protocol import machine
from volact.protocol.policy import DAY, HOUR, Policy

GRANTED = Situation(started=EPOCH, granted=True)
ABOUT_30_DAYS = [(30 * DAY - 1, True), (30 * DAY, False), (30 * DAY + 1, False)]


@pytest.mark.parametrize(("passed", "inside"), ABOUT_30_DAYS)
@pytest.mark.parametrize(
    ("situation", "state", "reason"),
    [
        (Situation(started=EPOCH), 2, "initial-grace"),
        (GRANTED._replace(hardware=machine.CHANGED, changed=EPOCH), 3, "hardware-changed"),
        (GRANTED._replace(blocked=EPOCH), 4, "blocked"),
    ],
)
def test_a_grace_is_thirty_days_to_the_second(
    situation: Situation, state: int, reason: str, passed: int, inside: bool
) -> None:
    found = standing(situation, Policy(), EPOCH + passed)
    if inside:
        assert (found.state, found.reason, found.end) == (state, reason, EPOCH + 30 * DAY)
        assert found.allowed
    else:
        assert (found.state, found.reason, found.end) == (5, reason + "-ended", None)
        assert not found.allowed
    assert not found.licensed
    assert found.warn


@pytest.mark.parametrize("member", ["initial_grace", "tolerance_grace", "non_genuine_grace"])
@pytest.mark.parametrize(("passed", "inside"), [(HOUR - 1, True), (HOUR, False)])
def test_each_grace_is_its_own_member_of_the_policy(member: str, passed: int, inside: bool) -> None:
    situation = {
        "initial_grace": Situation(started=EPOCH),
        "tolerance_grace": GRANTED._replace(hardware=machine.CHANGED, changed=EPOCH),
        "non_genuine_grace": GRANTED._replace(blocked=EPOCH),
    }[member]
    policy = Policy(**{member: HOUR})  # type: ignore[arg-type]  # one of three durations
    assert standing(situation, policy, EPOCH + passed).allowed is inside


def test_a_grace_of_nothing_is_over_at_once() -> None:
    """A publisher who minds deleted homes sets `initial_grace = 0`."""
    assert standing(Situation(started=EPOCH), Policy(initial_grace=0), EPOCH).state == 5


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (Situation(started=None), (0, "not-started")),
        (Situation(started=EPOCH, key_removed=True), (0, "key-removed")),
        (GRANTED._replace(key_removed=True), (0, "key-removed")),
        (GRANTED._replace(returned=True), (0, "activation-returned")),
        (Situation(started=EPOCH, returned=True), (0, "activation-returned")),
        (Situation(started=EPOCH, returned=True, key_removed=True), (0, "key-removed")),
        (GRANTED._replace(returned=True, blocked=EPOCH), (0, "activation-returned")),
        (GRANTED._replace(hardware=machine.FOREIGN), (0, "other-machine")),
        (GRANTED._replace(hardware=machine.FOREIGN, blocked=EPOCH), (4, "blocked")),
        (GRANTED._replace(hardware=machine.CHANGED), (3, "hardware-changed")),
        (GRANTED, (1, "activated")),
        (GRANTED._replace(doubtful=True), (1, "activated")),
    ],
)
def test_the_first_line_of_the_table_that_holds_decides(
    situation: Situation, expected: tuple[int, str]
) -> None:
    assert standing(situation, Policy(), EPOCH)[:2] == expected


def test_a_permanent_activation_never_ends_by_itself() -> None:
    found = standing(GRANTED, Policy(), EPOCH + 36500 * DAY)
    assert (found.state, found.end, found.expires, found.warn) == (1, None, None, "")


def test_a_doubtful_clock_is_said() -> None:
    assert standing(GRANTED._replace(doubtful=True), Policy(), EPOCH).warn


def test_what_a_clock_that_ran_ahead_has_noted_counts_from_now_on() -> None:
    """F17: no grace lasts longer than its length from now, and none is over before it began."""
    found = standing(Situation(started=EPOCH + 3650 * DAY), Policy(), EPOCH)
    assert (found.state, found.end) == (2, EPOCH + 30 * DAY)


def test_states_have_the_names_of_rule_e() -> None:
    assert lifecycle.STATE_NAMES == (
        "Unlicensed",
        "Licensed",
        "Initial grace",
        "Out-of-tolerance grace",
        "Non-genuine grace",
        "Notification",
    )


@pytest.mark.parametrize("state", range(6))
def test_a_product_runs_in_the_states_one_to_four_and_is_licensed_in_one(state: int) -> None:
    licence = lifecycle.Licence(state, "x")
    assert licence.allowed is (1 <= state <= 4)
    assert licence.licensed is (state == 1)


def test_the_end_is_an_aware_time() -> None:
    expires = lifecycle.Licence(2, "initial-grace", EPOCH).expires
    assert expires
    assert expires.isoformat() == "2027-01-15T08:00:00+00:00"


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (30 * DAY, "30 days"),
        (2 * DAY, "2 days"),
        (2 * DAY - 1, "47 hours"),
        (2 * HOUR - 1, "119 minutes"),
        (1, "0 minutes"),
    ],
)
def test_what_is_left_is_said_in_a_fitting_unit(left: int, words: str) -> None:
    found = standing(Situation(started=EPOCH), Policy(), EPOCH + 30 * DAY - left)
    assert found.warn.endswith(f"{words} left.")


def test_every_reason_has_a_sentence() -> None:
    for situation in situations():
        found = standing(situation, Policy(), EPOCH)
        assert found.state == 1 or (found.warn and found.warn != found.reason)


def situations() -> list[Situation]:
    return [
        Situation(*values)
        for values in itertools.product(
            (None, EPOCH),
            (False, True),
            (False, True),
            (False, True),
            (None, EPOCH),
            (machine.SAME, machine.CHANGED, machine.FOREIGN),
            (None, EPOCH),
            (False, True),
        )
    ]


@given(st.sampled_from(situations()), st.integers(0, 400 * DAY), st.integers(0, 400 * DAY))
def test_time_alone_never_makes_a_state_better(situation: Situation, first: int, more: int) -> None:
    before = standing(situation, Policy(), EPOCH + first)
    after = standing(situation, Policy(), EPOCH + first + more)
    assert after.state in (before.state, 5)
    assert (
        before.end is None or after.end in (before.end, None) or not (situation.changed or situation.blocked)
    )


# Leases (K7)

LEASED = Situation(started=EPOCH, granted=True, lease_from=EPOCH, lease_end=EPOCH + 180 * DAY)
OTHER = Policy(validity=40 * DAY, warn_from=31 * DAY, tolerance_grace=9 * DAY)
OTHER_LEASED = LEASED._replace(lease_end=EPOCH + 40 * DAY)


@pytest.mark.parametrize(
    ("situation", "policy", "after", "expected"),
    [
        (LEASED, Policy(), 0, (1, "lease", False)),
        (LEASED, Policy(), 150 * DAY - 1, (1, "lease", False)),
        (LEASED, Policy(), 150 * DAY, (1, "lease", True)),
        (LEASED, Policy(), 150 * DAY + 1, (1, "lease", True)),
        (LEASED, Policy(), 180 * DAY - 1, (1, "lease", True)),
        (LEASED, Policy(), 180 * DAY, (3, "lease-ended", True)),
        (LEASED, Policy(), 180 * DAY + 1, (3, "lease-ended", True)),
        (LEASED, Policy(), 210 * DAY - 1, (3, "lease-ended", True)),
        (LEASED, Policy(), 210 * DAY, (5, "lease-ended-ended", True)),
        (LEASED, Policy(), 210 * DAY + 1, (5, "lease-ended-ended", True)),
        (OTHER_LEASED, OTHER, 31 * DAY - 1, (1, "lease", False)),
        (OTHER_LEASED, OTHER, 31 * DAY, (1, "lease", True)),
        (OTHER_LEASED, OTHER, 40 * DAY - 1, (1, "lease", True)),
        (OTHER_LEASED, OTHER, 40 * DAY, (3, "lease-ended", True)),
        (OTHER_LEASED, OTHER, 49 * DAY - 1, (3, "lease-ended", True)),
        (OTHER_LEASED, OTHER, 49 * DAY, (5, "lease-ended-ended", True)),
    ],
)
def test_a_lease_s_days_to_the_second(
    situation: Situation, policy: Policy, after: int, expected: tuple[int, str, bool]
) -> None:
    found = standing(situation, policy, EPOCH + after)
    assert (found.state, found.reason, bool(found.warn)) == expected


def test_a_lease_says_when_it_ends_and_what_follows() -> None:
    assert standing(LEASED, Policy(), EPOCH).end == EPOCH + 180 * DAY
    assert standing(LEASED, Policy(), EPOCH + 180 * DAY).end == EPOCH + 210 * DAY
    assert standing(LEASED, Policy(), EPOCH + 210 * DAY).end is None
    assert standing(LEASED, Policy(), EPOCH + 150 * DAY).warn.endswith("30 days left.")


def test_a_doubtful_clock_is_said_beside_a_lease_s_warning() -> None:
    doubtful = LEASED._replace(doubtful=True)
    assert standing(doubtful, Policy(), EPOCH).warn == "The machine's clock is in doubt."
    assert standing(doubtful, Policy(), EPOCH + 150 * DAY).warn.endswith(
        "left. The machine's clock is in doubt."
    )


@pytest.mark.parametrize(
    ("changed", "after", "expected"),
    [
        (170, 199, (3, "hardware-changed")),
        (170, 200, (5, "hardware-changed-ended")),
        (190, 209, (3, "lease-ended")),
        (190, 210, (5, "lease-ended-ended")),
        (100, 190, (5, "hardware-changed-ended")),
    ],
)
def test_neither_an_ended_lease_nor_changed_hardware_lengthens_the_other_s_grace(
    changed: int, after: int, expected: tuple[int, str]
) -> None:
    situation = LEASED._replace(hardware=machine.CHANGED, changed=EPOCH + changed * DAY)
    assert standing(situation, Policy(), EPOCH + after * DAY)[:2] == expected


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        (LEASED._replace(key_removed=True), (0, "key-removed")),
        (LEASED._replace(blocked=EPOCH), (4, "blocked")),
        (LEASED._replace(hardware=machine.FOREIGN), (0, "other-machine")),
        (LEASED._replace(hardware=machine.CHANGED), (3, "hardware-changed")),
    ],
)
def test_a_lease_falls_by_the_same_facts_as_a_confirmation(
    situation: Situation, expected: tuple[int, str]
) -> None:
    assert standing(situation, Policy(), EPOCH)[:2] == expected


@given(st.sampled_from(situations()), st.integers(0, 400 * DAY), st.integers(0, 400 * DAY))
def test_time_alone_never_makes_a_leased_state_better(situation: Situation, first: int, more: int) -> None:
    leased = situation._replace(lease_from=EPOCH, lease_end=EPOCH + 180 * DAY)
    order = [1, 2, 3, 4, 5, 0]
    before, after = (standing(leased, Policy(), EPOCH + at).state for at in (first, first + more))
    assert order.index(after) >= order.index(before)
