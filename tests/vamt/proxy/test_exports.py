"""V7, T30: what machines say of themselves is a table's text, in no program a formula, and comes back as it was."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import openpyxl  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volact.protocol.problems import UsageError
from volact.vamt import exports

FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "\u00a0=1+1",
    "\u200b=1+1",
    "\ufeff=1+1",
    '"=1+1',
    "'=1+1",
    "＝1+1",
    "＋1+1",
    "－1+1",
    "＠SUM(1)",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://x")',
    "pc1;=1+1",
    "pc1\n=1+1",
    "pc1\r\n@x",
    "pc1;\t+1",
]
HARMLESS = [
    "pc1",
    "web-1.example.com",
    "a=b",
    "a+b",
    "name@domain",
    "Müller, Ltd.",
    'say "hi"',
    "x; y",
    "日本",
    "2001:db8::1",
    "1 - 2",
    "'",
    "O'Brien",
]
STARTS = tuple("=+-@＝＋－＠\t\r\n")


def csv_of(rows: list[dict[str, Any]], *columns: str) -> list[list[str]]:
    out = io.BytesIO()
    assert exports.write("csv", columns, rows, out) == len(rows)
    return list(csv.reader(io.StringIO(out.getvalue().decode(), newline="")))


def xlsx_of(rows: list[dict[str, Any]], *columns: str) -> list[list[Any]]:
    out = io.BytesIO()
    assert exports.write("xlsx", columns, rows, out) == len(rows)
    out.seek(0)
    sheet = openpyxl.load_workbook(out).active
    assert sheet is not None
    cells = [list(row) for row in sheet.iter_rows()]
    assert not [cell for row in cells for cell in row if cell.data_type == "f"]
    return [[cell.value for cell in row] for row in cells]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_formula_in_csv(text: str) -> None:
    (_, (cell,)) = csv_of([{"name": text}], "name")
    assert not cell.startswith(STARTS)
    assert not any(
        part.startswith(STARTS) for part in cell.replace("\r", ";").replace("\n", ";").split(";") if part
    )
    assert cell.replace("'", "") == text.replace("'", "")


def test_no_formula_in_xlsx() -> None:
    """Each is the text that it was: openpyxl, an independent reader, finds no formula."""
    plain = [text for text in FORMULAS if text.isprintable()]
    found = xlsx_of([{"name": text} for text in plain], "name")
    assert found == [["name"], *[[text] for text in plain]]


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_names_come_back_as_they_were(text: str) -> None:
    assert csv_of([{"name": text}], "name")[1] == [text]
    assert xlsx_of([{"name": text}], "name")[1] == [text]


def test_numbers_lists_and_nothing() -> None:
    rows = [{"n": -5, "b": True, "l": ["a", "b"], "d": {"x": 1}, "none": None}]
    columns = ("n", "b", "l", "d", "none", "missing")
    assert csv_of(rows, *columns)[1] == ["-5", "yes", "a, b", '{"x": 1}', "", ""]
    assert xlsx_of(rows, *columns)[1] == [-5, "yes", "a, b", '{"x": 1}', None, None]


def test_json_is_as_it_is() -> None:
    rows: list[dict[str, Any]] = [{"name": "=1+1", "n": 1}, {"name": "ü", "n": None}]
    out = io.BytesIO()
    assert exports.write("json", ("name",), rows, out) == 2
    assert json.loads(out.getvalue()) == rows
    empty = io.BytesIO()
    assert exports.write("json", (), [], empty) == 0
    assert json.loads(empty.getvalue()) == []


def test_kinds_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="kind of table"):
        exports.write("ods", (), [], io.BytesIO())
    monkeypatch.setattr(exports, "MOST_SHEET_ROWS", 4)
    assert exports.write("xlsx", ("a",), [{"a": 1}] * 3, io.BytesIO()) == 3
    with pytest.raises(UsageError, match="at most 4 rows"):
        exports.write("xlsx", ("a",), [{"a": 1}] * 4, io.BytesIO())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=20))
def test_any_text(text: str) -> None:
    """Nothing begins a formula, and what did not begin one is not touched."""
    text = text.encode("utf-8", "ignore").decode()
    (_, (cell,)) = csv_of([{"name": text}], "name") if text else ([], [""])
    assert not cell.startswith(STARTS)
    if not any(sign in text for sign in "=+-@＝＋－＠﹦﹢﹣﹫\t\r\n"):
        assert cell == text


assert sys.version_info >= (3, 11)
