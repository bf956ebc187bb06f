"""K8 against an independent model: who called last when, and nothing else, says what is counted and who is granted.

The host here is the test's own, over real HTTPS; tests/system/test_lab.py plays the same story with the real programs.
"""

import io
from pathlib import Path
from typing import Any

import pytest

from lab.counting_host import CountingSite
from lab.model import check_story
from volact.console import Console
from volact.lab import cli, story
from volact.lab.handclock import HandClock
from volact.lab.narrating import Line, clock_face, spell
from volact.lab.site import product_file
from volact.protocol import policy
from volact.protocol.policy import DAY, HOUR, MINUTE, Threshold
from volact.protocol.problems import Refused, UsageError

START = 1_800_000_000
RULES = policy.of_edition("client")
SMALL: tuple[dict[str, Any], ...] = (
    {
        "thresholds": [{"count": "machines", "minimum": 4}],
        "validity": 12 * DAY,
        "renewal": DAY,
        "retry": 3 * HOUR,
        "record_lifetime": 2 * DAY,
    },
    {
        "thresholds": [{"count": "machines", "minimum": 7}],
        "validity": 30 * DAY,
        "renewal": 36 * HOUR,
        "retry": 95 * MINUTE,
        "record_lifetime": 5 * DAY,
        "initial_grace": 11 * DAY,
        "tolerance_grace": 13 * DAY,
    },
)


@pytest.mark.sockets
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("members", SMALL, ids=["4 machines", "7 machines"])
def test_the_story_is_true_to_the_second(members: dict[str, Any], seed: int, tmp_path: Path) -> None:
    numbers = policy.read(members, "client")
    days = 14
    clock = HandClock(tmp_path / "clock", START)
    site = CountingSite(tmp_path, clock, numbers, **members)
    said: list[Line] = []
    planned = story.plan(numbers, "client", days)
    with site.server:
        played = story.Kms(site, clock, planned, said.append, seed)  # type: ignore[arg-type]  # the test's own host
        played.play()
    assert said == played.lines
    document = played.document()
    check_story(document, numbers, numbers.thresholds[0].minimum, days)
    assert [one["iss"] for one in site.host.checkins] != []
    reported = {(one["iat"] - START, one["state"]) for one in site.host.checkins}
    assert {state for _, state in reported} == {1, 2}, (
        "Initial grace before the first lease, Licensed ever after"
    )


@pytest.mark.sockets
def test_another_refusal_has_no_place_in_the_story(tmp_path: Path) -> None:
    numbers = policy.read(SMALL[0], "client")
    clock = HandClock(tmp_path / "clock", START)
    site = CountingSite(tmp_path, clock, numbers, **SMALL[0])
    site.host.refuse("product-not-served")
    with site.server:
        played = story.Kms(site, clock, story.plan(numbers, "client", 14), lambda _line: None, 1)  # type: ignore[arg-type]
        with pytest.raises(Refused) as error:
            played.play()
    assert error.value.refusal.code == "product-not-served"


def test_the_plan_by_the_numbers_of_the_rules() -> None:
    """25 at first; two leave on day 10; at day 48 17:00 two join: 10 + 30 + 1.1 x 7 days and 12 retries of 2 hours."""
    assert story.plan(RULES, "client", 60) == (25, 10 * DAY, 48 * DAY + 17 * HOUR, 60 * DAY)


@pytest.mark.parametrize(("days", "good"), [(56, False), (57, True), (89, True), (90, False)])
def test_the_days_of_the_story(days: int, good: bool) -> None:
    """48 d 17 h, then two joins 10 minutes apart, 1.1 x 2 h and 1.1 x 7 d: 56.5 days; a delegation lasts 90."""
    if good:
        assert story.plan(RULES, "client", days).end == days * DAY
    else:
        with pytest.raises(UsageError, match="57 days at least"):
            story.plan(RULES, "client", days)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"thresholds": (Threshold("machines", 2),)}, "nobody is left"),
        ({"threshold_applies_to": "activation"}, "not refused"),
        ({"strong_count": True}, "strong count"),
        ({"thresholds": (Threshold("servers", 5),)}, "never reach"),
        ({"thresholds": (Threshold("machines", 2500),)}, "tries"),
    ],
    ids=["2 machines", "activation only", "strong", "servers", "too many"],
)
def test_policies_with_which_the_story_cannot_be_played(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        story.plan(RULES._replace(**changed), "client", 60)


def test_three_machines_are_enough_and_servers_are_machines() -> None:
    assert story.plan(RULES._replace(thresholds=(Threshold("machines", 3),)), "client", 60).fleet == 3
    assert story.plan(policy.of_edition("server"), "server", 60).fleet == 5


@pytest.mark.parametrize(
    ("at", "shown"), [(0, "day  0 00:00"), (DAY - 1, "day  0 23:59"), (10 * DAY + 7500, "day 10 02:05")]
)
def test_clock_face(at: int, shown: str) -> None:
    assert clock_face(at) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (DAY, "1 day"),
        (180 * DAY, "180 days"),
        (2 * HOUR, "2 hours"),
        (5700, "95 minutes"),
        (7061, "1 h 57 min"),
    ],
)
def test_spell(seconds: int, shown: str) -> None:
    assert spell(seconds) == shown


def test_product_file_writes_a_policy_that_reads_the_same() -> None:
    """Every member that differs from the defaults comes back through the publisher's own reader."""
    from volact.authority import productfile

    other = RULES._replace(
        thresholds=(Threshold("servers", 3), Threshold("machines", 7)),
        threshold_applies_to="activation",
        validity=40 * DAY,
        renewal=36 * HOUR,
        retry=95 * MINUTE,
        record_lifetime=9 * DAY,
        count_group="cad",
        strong_count=True,
        forget_key=False,
        warn_from=20 * DAY,
        rearms=1,
        status_check=True,
    )
    claims = productfile.read(product_file(other, "client"))
    assert policy.read(claims["pol"], claims["edition"]) == other


def test_the_clock_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    from volact.clock import LabClock

    clock = HandClock(tmp_path / "clock", START)
    seen = LabClock(clock.environ["VOLACT_LAB_CLOCK"])
    assert seen.now() == START
    clock.move(START + 7)
    assert (seen.now(), clock.now) == (START + 7, START + 7)
    assert [one.name for one in tmp_path.iterdir()] == ["clock"]


@pytest.mark.parametrize("as_json", [False, True], ids=["prose", "json"])
def test_lines_are_said_as_they_come(as_json: bool) -> None:
    """On standard output for people; beside it where that is one JSON value."""
    out, err = io.StringIO(), io.StringIO()
    say = cli.teller(Console(json=as_json, out=out, err=err))
    say(Line(10 * DAY + 7500, "leaves", 25, "two leave"))
    said, silent = (err, out) if as_json else (out, err)
    assert (said.getvalue(), silent.getvalue()) == ("day 10 02:05    25  two leave\n", "")
