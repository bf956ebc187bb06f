"""A count's future as a text of at most 80 columns: what `volact kmshost forecast` draws (K15). Pure.

Full blocks are certain, light ones expected; a line marks what is required. It needs neither colour nor a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = 8
_WIDTH = 66
_WIDEST = 6
_FULL, _LIGHT, _LINE = "█", "░", "╌"


def draw(
    certain: Sequence[int], expected: Sequence[int], required: Sequence[int], dates: Sequence[str]
) -> list[str]:
    """The lines of a chart with a column for each day; `dates` are the days' names, as MM-DD.

    A bar reaches a row if its count reaches the row's number, which stands at the left; each of the `required` counts
    has a row of its own number, so that a count one below it stays below its line.
    """
    step = -(-len(dates) // _WIDTH)  # more days than columns: each step-th day
    days = range(0, len(dates), step)
    wide = min(_WIDEST, max(1, _WIDTH // len(days)))
    top = max([*expected, *certain, *required, 1])
    levels = sorted(
        {-(-top * row // ROWS) for row in range(1, ROWS + 1)} | {one for one in required if one}, reverse=True
    )
    margin = len(str(top))
    lines = []
    for level in levels:
        empty = _LINE if level in required else " "
        cells = [
            _FULL if certain[day] >= level else _LIGHT if expected[day] >= level else empty for day in days
        ]
        lines.append(f"{level:>{margin}} ┤{''.join(cell * wide for cell in cells)}".rstrip())
    lines.append(f"{'0':>{margin}} └{'─' * (wide * len(days))}")
    lines.append(_named(margin + 2, [dates[day] for day in days], wide))
    return lines


def _named(start: int, dates: Sequence[str], wide: int) -> str:
    """Dates under their columns, each as soon as there is room for it."""
    text = " " * start
    for place, date in enumerate(dates):
        column = start + place * wide
        if len(text) <= column:
            text = text.ljust(column) + date + "  "
    return text.rstrip()
