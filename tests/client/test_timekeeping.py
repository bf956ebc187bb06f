"""PROTOCOL section 8: the time on a client (T12, F16, F17, F18, F20)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.machine import HandClock
from client.publisher import EPOCH
from volact.client import timekeeping
from volact.client.check import look
from volact.client.timekeeping import Fold
from volact.protocol.policy import CLOCK_TOLERANCE, DAY, DOUBT_LIMIT, HOUR, MINUTE, RUNNING_SAVE

YEARS = 3650 * DAY


class Keeper:
    """A clock and what is kept of it, looked at and saved after each move."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.fold = timekeeping.first(look(self.clock))

    def look(self) -> "Keeper":
        self.fold = timekeeping.observe(self.fold, look(self.clock))
        return self

    @property
    def now(self) -> int:
        return timekeeping.now(self.fold, self.clock.wall)

    @property
    def doubtful(self) -> bool:
        return timekeeping.doubtful(self.fold, self.clock.wall)


def test_a_clock_that_goes_right_is_the_time() -> None:
    keeper = Keeper()
    for seconds in (1, MINUTE, DAY, 200 * DAY):
        keeper.clock.run(seconds)
        assert keeper.look().now == keeper.clock.wall
        assert not keeper.doubtful


def test_a_clock_turned_back_does_not_turn_time_back() -> None:
    keeper = Keeper()
    keeper.clock.run(DAY)
    keeper.look()
    keeper.clock.turn(-YEARS)
    assert keeper.look().now == EPOCH + DAY
    keeper.clock.run(DAY)
    assert keeper.look().now == EPOCH + 2 * DAY


@pytest.mark.parametrize(("back", "doubtful"), [(HOUR - 1, False), (HOUR, False), (HOUR + 1, True)])
def test_more_than_an_hour_back_is_doubtful(back: int, doubtful: bool) -> None:
    """F16: at most an hour: no warning."""
    keeper = Keeper()
    keeper.clock.off(DAY)  # W and H a day ahead of L, so that H alone decides
    keeper.look()
    keeper.clock.turn(-back)
    assert keeper.look().doubtful is doubtful


@pytest.mark.parametrize(
    ("ran", "counts"), [(DOUBT_LIMIT - 1, False), (DOUBT_LIMIT, True), (DOUBT_LIMIT + 1, True)]
)
def test_the_highest_time_counts_after_seven_days_of_running_in_doubt(ran: int, counts: bool) -> None:
    keeper = Keeper()
    keeper.clock.turn(YEARS)
    keeper.look()
    keeper.clock.turn(-YEARS)
    keeper.clock.run(ran)
    assert keeper.look().doubtful
    assert keeper.now == (EPOCH + YEARS if counts else EPOCH + ran)


def test_doubt_is_summed_over_boots_and_over_times_without_doubt() -> None:
    keeper = Keeper()
    keeper.clock.turn(YEARS)
    keeper.look()
    for _ in range(6):
        keeper.clock.turn(-YEARS)
        keeper.clock.off(0)
        keeper.clock.run(DAY)
        keeper.look()
        keeper.clock.turn(YEARS)
        keeper.look()
        assert keeper.fold.doubt < DOUBT_LIMIT
    keeper.clock.turn(-YEARS)
    keeper.look()
    keeper.clock.run(DAY)
    assert keeper.look().fold.doubt == DOUBT_LIMIT


@pytest.mark.parametrize("shift", [-YEARS, -DAY, 0, DAY, YEARS])
def test_a_fresh_signed_time_sets_everything_forwards_or_backwards(shift: int) -> None:
    """F17: one contact, and no wrong clock locks for ever."""
    keeper = Keeper()
    keeper.clock.turn(YEARS)
    keeper.look()
    keeper.clock.turn(-YEARS)
    keeper.clock.run(30 * DAY)
    keeper.look()
    signed = keeper.clock.wall + shift
    keeper.fold = timekeeping.answered(keeper.fold, signed, keeper.clock.wall)
    assert keeper.fold[:4] == (signed, 0, signed, 0)
    assert keeper.now == max(keeper.clock.wall, signed)


def test_any_other_signed_time_only_raises_the_running_one() -> None:
    keeper = Keeper()
    later = timekeeping.signed(keeper.fold, EPOCH + DAY)
    assert (later.answered, later.run, later.highest) == (EPOCH, DAY, EPOCH)
    assert timekeeping.signed(later, EPOCH) == later


@pytest.mark.parametrize("days", [179, 181])
def test_a_suspended_machine_loses_no_minute(days: int) -> None:
    """F18: the boot clock counts suspend, the wall clock too; either alone is enough."""
    for turned in (0, -days * DAY):
        keeper = Keeper()
        keeper.clock.run(days * DAY)
        keeper.clock.turn(turned)
        assert keeper.look().now == EPOCH + days * DAY
    keeper = Keeper()
    keeper.clock.off(days * DAY)
    assert keeper.look().now == EPOCH + days * DAY


def test_a_boot_clock_that_goes_back_adds_nothing() -> None:
    keeper = Keeper()
    keeper.clock.since_boot -= 500
    assert keeper.look().fold.run == 0


@pytest.mark.parametrize(
    ("ran", "due"), [(RUNNING_SAVE - 1, False), (RUNNING_SAVE, True), (RUNNING_SAVE + 1, True)]
)
def test_running_time_is_saved_every_ten_minutes(ran: int, due: bool) -> None:
    keeper = Keeper()
    saved = keeper.fold
    keeper.clock.run(ran)
    assert timekeeping.due_for_saving(saved, keeper.look().fold) is due


def test_a_new_boot_is_saved_at_once() -> None:
    keeper = Keeper()
    saved = keeper.fold
    keeper.clock.off(0)
    assert timekeeping.due_for_saving(saved, keeper.look().fold)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["run", "turn", "off"]),
        st.one_of(st.integers(0, 2 * HOUR), st.integers(0, 40 * DAY), st.integers(0, YEARS)),
        st.booleans(),
    ),
    max_size=40,
)


def moved(keeper: Keeper, kind: str, seconds: int, back: bool) -> None:
    if kind == "turn":
        keeper.clock.turn(-seconds if back else seconds)
    else:
        getattr(keeper.clock, kind)(min(seconds, 40 * DAY))


@given(MOVES)
def test_time_never_stays_behind_for_longer_than_the_rule_allows(moves: list[tuple[str, int, bool]]) -> None:
    """F16: nothing is extended by more than 7 days of running time and an hour.

    Whatever is done to the clock: the time that counts is at most an hour behind all that was ever seen, but
    for 7 days of running time.
    """
    keeper = Keeper()
    seen, behind = EPOCH, 0
    for kind, seconds, back in moves:
        before = keeper.clock.since_boot if kind != "off" else 0
        moved(keeper, kind, seconds, back)
        keeper.look()
        seen = max(seen, keeper.clock.wall, keeper.fold.answered + keeper.fold.run)
        if keeper.now < seen - CLOCK_TOLERANCE:
            behind += keeper.clock.since_boot - before
        assert behind < DOUBT_LIMIT or keeper.now >= seen - CLOCK_TOLERANCE


@given(MOVES)
def test_time_never_falls_behind_the_running_time(moves: list[tuple[str, int, bool]]) -> None:
    keeper = Keeper()
    ran = 0
    for kind, seconds, back in moves:
        moved(keeper, kind, seconds, back)
        ran += min(seconds, 40 * DAY) if kind == "run" else 0
        assert keeper.look().now >= EPOCH + ran


@given(MOVES, st.integers(-YEARS, YEARS))
def test_one_contact_heals_every_clock(moves: list[tuple[str, int, bool]], shift: int) -> None:
    """F17: after a fresh signed time and a clock put right, the time is right."""
    keeper = Keeper()
    for kind, seconds, back in moves:
        moved(keeper, kind, seconds, back)
        keeper.look()
    signed = keeper.clock.wall + shift
    keeper.fold = timekeeping.answered(keeper.fold, signed, keeper.clock.wall)
    keeper.clock.wall = signed
    keeper.clock.run(HOUR)
    assert keeper.look().now == signed + HOUR
    assert not keeper.doubtful


def test_the_fold_survives_its_list_form() -> None:
    """As `state.json` keeps it."""
    fold = Keeper().fold
    assert Fold(*json.loads(json.dumps(list(fold)))) == fold


@pytest.mark.parametrize("ran", [0, 5, DAY])
@pytest.mark.parametrize(
    ("behind", "back", "newly"),
    [
        (0, HOUR, False),
        (0, HOUR + 1, True),
        (300 * DAY, 300 * DAY + HOUR, False),
        (300 * DAY, 300 * DAY + HOUR + 1, True),
        (300 * DAY, 0, False),
        (HOUR, HOUR + 1, False),  # an hour behind, and the second that rounding takes
        (HOUR, 2 * HOUR, False),
        (HOUR, 2 * HOUR + 1, True),
        (-YEARS, HOUR, False),
        (-YEARS, HOUR + 1, True),
    ],
)
def test_doubt_is_new_by_what_befell_the_clock_since_the_last_answer(
    behind: int, back: int, newly: bool, ran: int
) -> None:
    """A clock that stays wrong after an answer is not put right by asking again and again."""
    keeper = Keeper()
    keeper.fold = timekeeping.answered(keeper.fold, EPOCH + behind, EPOCH)
    keeper.clock.run(ran)
    keeper.clock.wall = EPOCH + behind + ran - back
    keeper.look()
    assert timekeeping.newly_doubtful(keeper.fold, keeper.clock.wall) is newly


def test_a_clock_that_ran_ahead_and_is_put_right_is_newly_in_doubt() -> None:
    keeper = Keeper()
    keeper.fold = timekeeping.answered(keeper.fold, EPOCH, EPOCH)
    keeper.clock.turn(DAY)
    keeper.look()
    assert not timekeeping.newly_doubtful(keeper.fold, keeper.clock.wall)
    keeper.clock.turn(-DAY)
    assert timekeeping.newly_doubtful(keeper.look().fold, keeper.clock.wall)
    keeper.fold = timekeeping.answered(keeper.fold, EPOCH, EPOCH)
    assert not timekeeping.newly_doubtful(keeper.look().fold, keeper.clock.wall)


def test_a_fold_of_an_older_version_was_neither_behind_nor_ahead() -> None:
    fold = Fold(EPOCH, 0, EPOCH, 0, 1000, "boot")
    assert (fold.behind, fold.ahead) == (0, 0)


@pytest.mark.parametrize(
    ("ahead", "back", "found"),
    [
        (-DAY, 0, 0),
        (0, 0, 0),
        (HOUR, 0, 0),
        (HOUR + 1, 0, HOUR + 1),
        (365 * DAY, 0, 365 * DAY),
        (365 * DAY, HOUR, 365 * DAY - HOUR),
        (365 * DAY, HOUR + 1, 0),  # set back since, if not to the right time
        (365 * DAY, 365 * DAY, 0),
    ],
)
@pytest.mark.parametrize("ran", [0, 5, DAY])
def test_a_clock_is_known_to_be_ahead_by_what_it_said_at_the_last_answer(
    ahead: int, back: int, found: int, ran: int
) -> None:
    keeper = Keeper()
    keeper.fold = timekeeping.answered(keeper.fold, EPOCH, EPOCH + ahead)
    keeper.clock.run(ran)
    keeper.clock.wall = EPOCH + ahead + ran - back
    keeper.look()
    assert timekeeping.ahead(keeper.fold, keeper.clock.wall) == found


def test_a_machine_that_was_off_for_long_is_not_ahead() -> None:
    keeper = Keeper()
    keeper.fold = timekeeping.answered(keeper.fold, EPOCH, EPOCH)
    assert timekeeping.ahead(keeper.fold, EPOCH + 365 * DAY) == 0
