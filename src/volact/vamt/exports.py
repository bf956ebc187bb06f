"""Tables for other programs: CSV, XLSX and JSON of machines and products, of keys, of the log (V7, T30).

What machines say of themselves stands in these tables, and a spreadsheet takes a text that begins with ``=`` for a
formula. So in CSV such a text gets an apostrophe before it, which spreadsheets take for "this is text"; in XLSX each text
is written as one; in JSON nothing is changed, for nothing computes there. All other texts come back as they were.
"""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any, BinaryIO

from volact.protocol.problems import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CSV, XLSX, JSON = "csv", "xlsx", "json"
KINDS = (CSV, XLSX, JSON)
MOST_SHEET_ROWS = 1_048_576
"""Rows of a sheet, the heads' one included."""
_MOST_CELL = 32_767
# What begins a formula somewhere: ASCII and full-width signs, and the control characters that let one begin behind them.
# Behind a semicolon or a line end, too: a program with another separator in mind takes that for the next cell.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=[\s\u200b\ufeff\"']*[=+\-@＝＋－＠﹦﹢﹣﹫]|[\t\r\n])")


def write(kind: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], out: BinaryIO) -> int:
    """Write a table of `kind`, whose `rows` have these members, to `out`; how many rows there were.

    Raises:
        UsageError: if there is no such kind, or an XLSX sheet cannot hold so many rows.
    """
    writers = {CSV: _csv, XLSX: _xlsx, JSON: _json}
    if kind not in writers:
        raise UsageError(f"There is no kind of table {kind[:40]!r}.", f"Give one of {', '.join(KINDS)}.")
    return writers[kind](columns, rows, out)


def harmless(text: str) -> str:
    """A text as it may stand in a cell of CSV: no program takes it, or what follows a separator in it, for a formula."""
    return _FORMULA.sub(lambda found: f"{found[1]}'", text)


def _text(value: object) -> str:
    """A value that is no number, as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], out: BinaryIO) -> int:
    count = 0
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_MINIMAL)
        writer.writerow(columns)
        for row in rows:
            cells = (row.get(column) for column in columns)
            writer.writerow([str(one) if _is_number(one) else harmless(_text(one)) for one in cells])
            count += 1
    finally:
        text.detach()
    return count


def _xlsx(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], out: BinaryIO) -> int:
    import xlsxwriter  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra that only this needs

    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = xlsxwriter.Workbook(out, options)
    try:
        sheet = book.add_worksheet()
        bold = book.add_format({"bold": True})
        for at, column in enumerate(columns):
            sheet.write_string(0, at, column, bold)
        sheet.freeze_panes(1, 0)
        return _sheet_rows(sheet, columns, rows)
    finally:
        book.close()


def _sheet_rows(sheet: Any, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:  # noqa: ANN401 - a sheet
    count = 0
    for row in rows:
        count += 1
        if count == MOST_SHEET_ROWS:
            raise UsageError(
                f"A sheet has at most {MOST_SHEET_ROWS} rows.", "Narrow the selection, or export as CSV."
            )
        for at, column in enumerate(columns):
            value = row.get(column)
            if _is_number(value):
                sheet.write_number(count, at, value)
            elif text := _text(value):
                sheet.write_string(count, at, text[:_MOST_CELL])
    return count


def _json(_columns: Sequence[str], rows: Iterable[Mapping[str, Any]], out: BinaryIO) -> int:
    count = 0
    out.write(b"[")
    for row in rows:
        out.write(b",\n" if count else b"\n")
        out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
        count += 1
    out.write(b"\n]\n")
    return count
