"""What `volact kmshost forecast` tells: the count of the days to come, as JSON and for people (K15).

The JSON is append-only: members are added, never renamed or removed.
"""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from volact.commands import when
from volact.console import table
from volact.kmshost import chart, foresight, listening
from volact.kmshost import store as sql
from volact.kmshost.terms import intervals_of
from volact.protocol.policy import DAY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volact.kmshost.forecast import Lines, Outlook
    from volact.kmshost.foresight import Future
    from volact.kmshost.keyring import Product
    from volact.kmshost.setup import Opened

LONGEST = 365
"""Days that can be asked for: no record lives longer."""
_COLUMNS = 80
_HEAD = ("until the end of", "if nobody calls any more", "expected")


def forecast(opened: Opened, days: int) -> dict[str, Any]:
    """The forecast for today and so many `days` more, as JSON-ready members.

    Raises:
        VolactError: if the store cannot be read.
    """
    keyring, now, settings = opened.keyring(), opened.clock.now(), opened.settings
    intervals = intervals_of(settings)
    products = keyring.products if keyring else {}
    since = listening.since(opened.folder)
    future = foresight.foresee(opened.store, products, intervals, now, min(since, now), days)
    with opened.store.reading() as tx:
        names = {one.prd: one.name for one in sql.products(tx)}
    return {
        "now": when(now),
        "days": days,
        "listening": bool(since),
        "dates": [_date(future.today + day) for day in range(days + 1)],
        "counts": [
            {"group": group, "counted": counted, **_lines(found)}
            for (group, counted), found in future.counts.items()
        ],
        "products": [
            _product(prd, names.get(prd, prd), products[prd], found, future)
            for prd, found in future.products.items()
        ],
    }


def _lines(found: Lines) -> dict[str, Any]:
    return {
        "now": found.now,
        "overdue": found.overdue,
        "certain": list(found.certain),
        "expected": list(found.expected),
    }


def _product(prd: str, name: str, product: Product, found: Outlook, future: Future) -> dict[str, Any]:
    return {
        "product": prd,
        "name": name,
        "group": product.group,
        "enough": found.enough,
        "certain_loss": _date(found.certain),
        "expected_loss": _date(found.expected),
        "thresholds": [
            {
                "counted": one.counted,
                "required": one.minimum,
                "count": one.now,
                "certain_loss": _date(one.certain),
                "expected_loss": _date(one.expected),
            }
            for one in found.prospects
        ],
        "sentence": _sentence(product, found, future),
    }


def _date(day: int | None) -> str | None:
    return None if day is None else datetime.fromtimestamp(day * DAY, UTC).date().isoformat()


# --- for people -------------------------------------------------------------------------------------------------


def _sentence(product: Product, found: Outlook, future: Future) -> str:
    """When the product is lost, and why, in plain words."""
    last = foresight.last_to_be_lost(found)
    if not found.enough:
        missing = last.minimum - last.now
        more = "1 more has" if missing == 1 else f"{missing} more have"
        return f"Not enough now: {last.now} of {last.minimum} {last.counted}; {more} to call."
    if found.expected is not None:
        overdue = future.counts[product.group, last.counted].overdue
        return (
            f"Falls below {last.minimum} {last.counted} on {_date(found.expected)} ({_ahead(found.expected, future)}):"
            f" {_machines(overdue)} not called in time."
        )
    if found.certain is not None:
        return f"No loss in sight. If nobody called any more: on {_date(found.certain)} ({_ahead(found.certain, future)})."
    return "No loss in sight, even if nobody called any more."


def _ahead(day: int, future: Future) -> str:
    days = day - future.today
    return "today" if not days else "tomorrow" if days == 1 else f"in {days} days"


def _machines(many: int) -> str:
    return "1 machine has" if many == 1 else f"{many} machines have"


def prose(found: Mapping[str, Any]) -> str:
    """A forecast for people: a sentence for each product, and for each count a chart and the days on which it changes."""
    if not found["products"]:
        return "No product is known here yet.\nNext: volact kmshost install-key KEY, then volact kmshost activate"
    lines = []
    for one in found["products"]:
        lines += [f"{one['name']} ({one['product']})", *_wrapped(one["sentence"])]
    if not found["listening"]:
        lines.append("The service is not running here: as long as none does, nobody can call.")
    shown = [one for one in found["counts"] if _required(found, one) and one["now"]]
    if not shown:
        lines.append("No machine counts now. On a machine: slmgr /skms THIS_HOST, then slmgr /ato")
    for one in shown:
        lines += ["", *_chart(found, one), "", *_changes(found["dates"], one)]
    return "\n".join(lines)


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, _COLUMNS, initial_indent="  ", subsequent_indent="  ")


def _required(found: Mapping[str, Any], count: Mapping[str, Any]) -> list[int]:
    """The numbers that products require of a count."""
    return sorted(
        {
            rule["required"]
            for one in found["products"]
            if one["group"] == count["group"]
            for rule in one["thresholds"]
            if rule["counted"] == count["counted"]
        }
    )


def _chart(found: Mapping[str, Any], one: Mapping[str, Any]) -> list[str]:
    required = _required(found, one)
    title = f"{one['counted']} of {one['group']}: {one['now']} now, {one['overdue']} overdue, {' and '.join(map(str, required))} required"
    dates = [date[5:] for date in found["dates"]]
    legend = "█ even if nobody calls any more   ░ expected   ╌ required"
    return [title, *chart.draw(one["certain"], one["expected"], required, dates), legend]


def _changes(dates: Sequence[str], one: Mapping[str, Any]) -> list[str]:
    """A table of the first day, the last, and those on which a count falls."""
    rows = []
    pairs = list(zip(one["certain"], one["expected"], strict=True))
    for day, (date, pair) in enumerate(zip(dates, pairs, strict=True)):
        if day in (0, len(pairs) - 1) or pair != pairs[day - 1]:
            rows.append([date, str(pair[0]), str(pair[1])])
    return table(rows, _HEAD).split("\n")
