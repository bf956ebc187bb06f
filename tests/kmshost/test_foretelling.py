"""`volact kmshost forecast`, `events` and `clones` as an administrator calls them, and the chart."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from authority_site import Site
from kmshost.enterprise import Enterprise
from volact.kmshost import chart, cli, schema
from volact.kmshost import store as sql
from volact.kmshost.ledger import COLUMNS, Record
from world import DAY, NOW, PRODUCT

Run = Callable[..., Any]
DATES = [f"{month:02}-{day:02}" for month in (11, 12) for day in range(1, 31)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Enterprise]:
    site = Site(tmp_path / "authority.db")
    site.product()
    host = Enterprise(tmp_path, site)
    host.init()
    yield host
    site.close()


@pytest.fixture
def run(host: Enterprise, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name, value in host.environ.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str, code: int = 0, prose: bool = False) -> Any:
        assert cli.main([*arguments] + ([] if prose else ["--json"])) == code
        out = capsys.readouterr().out
        return out if prose else json.loads(out)

    return run


def activate(host: Enterprise) -> None:
    host.install_key(host.site.key("kms-host"))
    host.activate()


def fill(host: Enterprise, calls: Sequence[tuple[int, int]]) -> None:
    """So many machines, each with how long ago it called, seconds."""
    now, rows = host.site.clock.now(), []
    for number, (machines, ago) in enumerate(calls):
        for one in range(machines):
            record = Record(0, f"{number}.{one}", PRODUCT, "publisher", False, now - ago, now - ago, now - ago + 30 * DAY,
                            "{}", None, 1, 60, False, None, "192.0.2.1", "ok")  # fmt: skip
            rows.append({name: getattr(record, name) for name in COLUMNS})
    with host.opened() as opened, opened.store.writing() as tx:
        tx.execute(schema.record.insert(), rows)


def date(host: Enterprise, days: int) -> str:
    from volact.commands import when

    return when((host.site.clock.now() // DAY + days) * DAY)[:10]


def test_a_host_that_is_not_activated_yet_says_what_is_next(host: Enterprise, run: Run) -> None:
    found = run("forecast")
    assert (found["days"], len(found["dates"]), found["listening"]) == (30, 31, False)
    assert [one["enough"] for one in found["products"]] == [False]
    text = run("forecast", prose=True)
    assert "Not enough now: 0 of 25 machines; 25 more have to call." in text
    assert "slmgr /skms THIS_HOST" in text


def test_k8_in_words_numbers_and_a_chart(host: Enterprise, run: Run) -> None:
    """25 machines of which two called last 8 days ago: on day 22 the count is 23."""
    activate(host)
    fill(host, [(23, DAY), (2, 8 * DAY)])
    found = run("forecast")
    (product,) = found["products"]
    assert product["expected_loss"] == product["certain_loss"] == date(host, 22)
    assert product["thresholds"] == [
        {
            "counted": "machines",
            "required": 25,
            "count": 25,
            "certain_loss": date(host, 22),
            "expected_loss": date(host, 22),
        }
    ]
    machines = next(one for one in found["counts"] if one["counted"] == "machines")
    assert (machines["now"], machines["overdue"]) == (25, 2)
    assert machines["certain"] == [25] * 22 + [23] * 7 + [0, 0]
    assert machines["expected"] == [25] * 22 + [23] * 9
    text = run("forecast", prose=True)
    said = " ".join(text.split())
    assert f"Falls below 25 machines on {date(host, 22)} (in 22 days): 2 machines have not called" in said
    assert "not running here" in text
    assert max(map(len, text.splitlines())) <= 80
    assert f"{date(host, 29)}        0" in text


@pytest.mark.parametrize(
    ("calls", "sentence"),
    [
        ([(26, DAY)], "No loss in sight. If nobody called any more: on {29} (in 29 days)."),
        (
            [(24, DAY), (1, 29 * DAY)],
            "Falls below 25 machines on {1} (tomorrow): 1 machine has not called in time.",
        ),
        ([(24, DAY)], "Not enough now: 24 of 25 machines; 1 more has to call."),
    ],
)
def test_the_future_in_plain_words(
    host: Enterprise, run: Run, calls: list[tuple[int, int]], sentence: str
) -> None:
    activate(host)
    fill(host, calls)
    for day in (1, 29):
        sentence = sentence.replace(f"{{{day}}}", date(host, day))
    assert run("forecast")["products"][0]["sentence"] == sentence


def test_no_loss_even_if_nobody_calls(host: Enterprise, run: Run) -> None:
    activate(host)
    fill(host, [(25, DAY)])
    found = run("forecast", "--days", "7")
    assert len(found["dates"]) == 8
    assert found["products"][0]["sentence"] == "No loss in sight, even if nobody called any more."


@pytest.mark.parametrize(
    ("days", "code"), [("0", 2), ("1", 0), ("365", 0), ("366", 2), ("-1", 2), ("1.5", 2)]
)
def test_days_have_bounds(run: Run, days: str, code: int) -> None:
    run("forecast", f"--days={days}", code=code)


def test_events_can_be_narrowed(host: Enterprise, run: Run) -> None:
    cmids = ["A" * 43, "-" + "B" * 42]
    events = [
        sql.Event(NOW, 12290, "ok", PRODUCT, cmids[0]),
        sql.Event(NOW + 1, 12290, "count-insufficient", PRODUCT, cmids[1]),
        sql.Event(NOW + 2, 12291, "port-taken"),
        sql.Event(NOW + 3, 12290, "ok", "com.example.other", cmids[1]),
        sql.Event(NOW + 4, 12295, "count-will-fall", PRODUCT),
    ]
    with host.opened() as opened, opened.store.writing() as tx:
        sql.add_event(tx, *events)

    def seen(*arguments: str) -> list[int]:
        times = [row["time"] for row in run("events", *arguments)]
        return [n for n, one in enumerate(events) if _when(one.time) in times]

    assert seen() == [0, 1, 2, 3, 4]
    assert seen("--event", "12290") == [0, 1, 3]
    assert seen("--result", "ok") == [0, 3]
    assert seen("--result", "count-will-fall") == [4]
    assert seen("--cmid", cmids[1]) == [1, 3]
    assert seen("--product", PRODUCT) == [0, 1, 4]
    assert seen("--event", "12290", "--limit", "1") == [3]
    assert seen("--since", _when(NOW + 1), "--result", "ok", "--cmid", cmids[1]) == [3]
    assert run("events", "--event", "12293", prose=True) == "No such event is kept.\n"


def _when(seconds: int) -> str:
    from volact.commands import when

    return when(seconds)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--event", "12292", "12295"),
        ("--event", "x", "no whole number"),
        ("--result", "count-insuficient", "count-insufficient"),
        ("--cmid", "A" * 42, "43 characters"),
    ],
)
def test_what_no_event_can_have_is_said(run: Run, option: str, value: str, says: str) -> None:
    assert says in json.dumps(run("events", option, value, code=2))


def test_clones_of_a_host_without_any(run: Run) -> None:
    assert run("clones") == []
    assert run("clones", prose=True) == "No machine has called with another one's identity.\n"


# --- the chart --------------------------------------------------------------------------------------------------


def test_a_chart_to_the_letter() -> None:
    assert chart.draw([4, 3, 0], [4, 4, 2], [3], DATES[:3]) == [
        "4 ┤██████░░░░░░",
        "3 ┤████████████╌╌╌╌╌╌",
        "2 ┤████████████░░░░░░",
        "1 ┤████████████░░░░░░",
        "0 └──────────────────",
        "   11-01       11-03",
    ]


@pytest.mark.parametrize("days", [1, 2, 31, 60, 366])
@pytest.mark.parametrize("count", [0, 1, 24, 25, 26, 1_000_000])
def test_a_chart_is_80_columns_wide_at_most_and_says_its_threshold(days: int, count: int) -> None:
    found = chart.draw([count] * days, [count] * days, [5, 25], (DATES * 7)[:days])
    assert max(map(len, found)) <= 80
    for required in (5, 25):
        (line,) = [
            one
            for one in found
            if one.split(" ")[0] == str(required) or one.strip().startswith(f"{required} ┤")
        ]
        assert ("█" in line) is (count >= required)
        assert ("╌" in line) is (count < required)
