"""Lists of keys: one key a line, or the CSV that ``volact authority key issue --csv`` writes (V4).

A CSV's first line names its columns; ``key`` and ``product`` count.
Lines that are wrong are named by number with the reason, never by what stands in them (M8).
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import ids, keys
from volact.protocol.problems import Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from volact.protocol.keys import ProductKey

MOST = 4 * 1024 * 1024
"""Characters of a list of keys: some 100,000 of them."""
_MARK = "\ufeff"
_KEY, _PRODUCT = "key", "product"
_HOST_KEY = "kms-host"
_MOST_WRONG = 20
"""Wrong lines that the sentence of a refusal names; all of them are in its members."""


class Wanted(NamedTuple):
    """A key that is to be kept, and the product that it is said to be for."""

    key: ProductKey
    product: str


class Wrong(NamedTuple):
    """A line that is wrong, counted from 1, and why."""

    line: int
    refusal: Refusal


def read(text: str, product: str) -> tuple[list[Wanted], list[Wrong]]:
    """The keys of a list, and its wrong lines; `product` is that of lines that name none."""
    found: list[Wanted] = []
    wrong: list[Wrong] = []
    for line, typed, named in _lines(text):
        one = _wanted(typed, named or product)
        if isinstance(one, Refusal):
            wrong.append(Wrong(line, one))
        else:
            found.append(one)
    return found, wrong


def wanted(text: str, product: str) -> list[Wanted]:
    """The keys of a text, which is one key or a list; all of them or none.

    Raises:
        UsageError: if there is none, or nothing says what they are for.
        Refused: why one is none, or `keys-malformed` with the lines of a list that are wrong.
    """
    if not product and not is_table(text):
        raise UsageError("Nothing says what the key is for.", "Say it: --product ID.")
    found, wrong = read(text, product)
    if not found and not wrong:
        raise UsageError("There is no key in it.", "Give a key, - or @FILE.")
    if wrong and len(text.splitlines()) == 1:
        raise Refused(wrong[0].refusal)
    if wrong:
        said = "; ".join(
            f"line {one.line}: {one.refusal.code}" + (f", {one.refusal.detail}" if one.refusal.detail else "")
            for one in wrong[:_MOST_WRONG]
        ).rstrip(".")
        more = f"; and {len(wrong) - _MOST_WRONG} more" if len(wrong) > _MOST_WRONG else ""
        lines = [{"line": one.line, "code": one.refusal.code, "detail": one.refusal.detail} for one in wrong]
        raise Refused(Refusal("keys-malformed", f"{said}{more}.", (("lines", lines),)))
    return found


def is_table(text: str) -> bool:
    """Whether a list is one with named columns, which may say what each key is for."""
    return _KEY in _head(text.removeprefix(_MARK).splitlines())


def check_kind(key: ProductKey) -> Refusal | None:
    """Why a key is none to be kept here: a KMS host's is put into the host itself."""
    if key.kind == _HOST_KEY:
        return Refusal("key-wrong-kind", f"{key.label} is a key for a KMS host.")
    return None


def _head(lines: Sequence[str]) -> list[str]:
    return [one.strip().lower() for one in _cells(lines[0])] if lines else []


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, key and product of each line that is not blank."""
    lines = text.removeprefix(_MARK).splitlines()
    head = _head(lines)
    if _KEY not in head:
        yield from ((number, one, "") for number, one in enumerate(lines, 1) if one.strip())
        return
    for number, line in enumerate(lines[1:], 2):
        if line.strip():
            row = dict(zip(head, _cells(line), strict=False))
            yield number, row.get(_KEY, ""), row.get(_PRODUCT, "").strip()


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error:  # a cell of more than 131,072 characters
        return []


def _wanted(typed: str, product: str) -> Wanted | Refusal:
    key = keys.read(typed)
    if isinstance(key, Refusal):
        return key
    if not product:
        return Refusal("product-unknown", "The line names none, and --product names none for it.")
    if not ids.is_product_id(product):
        return Refusal("product-unknown", "What it is said to be for is no product id.")
    return check_kind(key) or Wanted(key, product)
