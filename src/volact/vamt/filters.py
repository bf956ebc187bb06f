"""The filter of machines and their products: one form for commands, API, pages and saved views (V3). Pure.

``state=unlicensed product=com.example.* group=SecureNetwork key=mak name~web seen<7d``: terms that all hold, each a
field, an operator and values, of which one holds.

- ``=`` is, ``!=`` is not, ``~`` contains, ``!~`` does not; ``*`` in a value is anything; upper and lower case are equal.
- ``<`` and ``>`` compare spans: ``seen<7d`` within the last seven days, ``expires<30d`` within the next thirty.
- Values with blanks, commas or quotes stand in double quotes.
- A negation is the opposite of its term, so it holds where the field has no value, too.
- Every error names its place and what would be right.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import policy
from volact.protocol.documents import STATE_NAMES
from volact.protocol.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TEXT, CHOICE, FLAG, AGO, AHEAD = "text", "choice", "flag", "ago", "ahead"
STATE_WORDS = tuple(name.lower().replace(" ", "-") for name in STATE_NAMES)
MOST_TERMS = 20
MOST_VALUES = 200
MOST_TEXT = 4000
_TEXT_OPERATORS = ("=", "!=", "~", "!~")
_OPERATORS: Mapping[str, tuple[str, ...]] = {
    TEXT: _TEXT_OPERATORS,
    CHOICE: ("=", "!="),
    FLAG: ("=", "!="),
    AGO: ("<", ">"),
    AHEAD: ("<", ">"),
}


class Field(NamedTuple):
    """A field that can be filtered by: its kind, one line of help, and the words of a choice."""

    kind: str
    help: str
    words: tuple[str, ...] = ()


FIELDS: Mapping[str, Field] = {
    "name": Field(TEXT, "the machine's name without its domain"),
    "domain": Field(TEXT, "its domain"),
    "address": Field(TEXT, "one of its addresses"),
    "group": Field(TEXT, "a group that it is in"),
    "platform": Field(TEXT, "linux, windows, ..."),
    "system": Field(TEXT, "the operating system's name and version"),
    "virtual": Field(FLAG, "yes: it is a virtual machine", ("yes", "no")),
    "hypervisor": Field(TEXT, "what it runs on"),
    "source": Field(TEXT, "a source that it was found by: ldap, dns, addresses, csv, known-hosts, hand"),
    "outcome": Field(TEXT, "the code of the last collection: ok, or why it failed; none if it was not tried"),
    "seen": Field(AGO, "when it was last found or heard of: seen<7d within the last seven days"),
    "collected": Field(AGO, "when it last answered"),
    "id": Field(TEXT, "its id"),
    "publisher": Field(TEXT, "the publisher of a product on it"),
    "product": Field(TEXT, "a product on it"),
    "state": Field(CHOICE, "that product's licence state", STATE_WORDS),
    "key": Field(TEXT, "the kind of its key: mak, retail, kms"),
    "label": Field(TEXT, "the last group of its key"),
    "proof": Field(CHOICE, "whether the state was only reported or is proved", ("reported", "proved")),
    "host": Field(TEXT, "the KMS host that it was activated by"),
    "reason": Field(TEXT, "why the state is what it is"),
    "granted": Field(AGO, "when it was activated"),
    "expires": Field(AHEAD, "when its state ends: expires<30d within the next thirty days"),
}


class Term(NamedTuple):
    """One condition.

    Attributes:
        field: a name of `FIELDS`.
        operator: ``=`` ``!=`` ``~`` ``!~`` ``<`` ``>``.
        values: of which one has to hold; texts in lower case, states 0 to 6 as digits.
        seconds: the span of ``<`` and ``>``.
    """

    field: str
    operator: str
    values: tuple[str, ...]
    seconds: int = 0


_NAME = re.compile(r"[A-Za-z_-]*")
_OPERATOR = re.compile(r"!=|!~|=|~|<|>")
_VALUE = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s,"]+)')
_BLANKS = re.compile(r"\s*")
_STRANGE = re.compile("[\\0\\ud800-\\udfff]")
"""What no database keeps: NUL, and halves of characters."""


class _Malformed(Exception):
    """Where a text is malformed, from 0, and how."""

    def __init__(self, at: int, how: str) -> None:
        super().__init__(how)
        self.at, self.how = at, how


def parse(text: str) -> tuple[Term, ...] | Refusal:
    """The terms of a filter's text, none if it is empty; else `filter-malformed`, naming the place."""
    if len(text) > MOST_TEXT:
        return Refusal("filter-malformed", f"It has more than {MOST_TEXT} characters.")
    strange = _STRANGE.search(text)
    if strange:
        return Refusal(
            "filter-malformed", f"At character {strange.start() + 1}: no text has such a character."
        )
    terms: list[Term] = []
    try:
        at = _after(_BLANKS, text, 0)
        while at < len(text):
            term, at = _term(text, at)
            terms.append(term)
            if len(terms) > MOST_TERMS:
                return Refusal("filter-malformed", f"It has more than {MOST_TERMS} terms.")
    except _Malformed as error:
        return Refusal("filter-malformed", f"At character {error.at + 1}: {error.how}")
    return tuple(terms)


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _term(text: str, at: int) -> tuple[Term, int]:
    end = _after(_NAME, text, at)
    name = text[at:end].lower()
    operator = _OPERATOR.match(text, end)
    if not name or not operator:
        raise _Malformed(at, f"{text[at : at + 20]!r} is no FIELD=VALUE.")
    if name not in FIELDS:
        raise _Malformed(at, f"there is no field {name!r}; {_near(name, FIELDS)}")
    field = FIELDS[name]
    if operator[0] not in _OPERATORS[field.kind]:
        raise _Malformed(end, f"{name} takes {' '.join(_OPERATORS[field.kind])}, not {operator[0]}.")
    values, end = _values(text, operator.end(), name)
    if field.kind in (AGO, AHEAD):
        return Term(name, operator[0], values, _span(values, name, operator.end())), end
    if field.words:
        values = tuple(_word(value, name, field.words, operator.end()) for value in values)
    return Term(name, operator[0], values), end


def _values(text: str, at: int, name: str) -> tuple[tuple[str, ...], int]:
    values = []
    while True:
        found = _VALUE.match(text, at)
        if not found:
            quoted = text[at : at + 1] == '"'
            raise _Malformed(at, "a quote is not closed." if quoted else f"{name} has no value here.")
        value = found[2] if found[1] is None else re.sub(r"\\(.)", r"\1", found[1])
        values.append(value.lower())
        at = found.end()
        if len(values) > MOST_VALUES:
            raise _Malformed(at, f"{name} has more than {MOST_VALUES} values.")
        if text[at : at + 1] != ",":
            break
        at += 1
    end = _after(_BLANKS, text, at)
    if end == at and at < len(text):
        raise _Malformed(at, "a blank is missing here.")
    return tuple(values), end


def _span(values: tuple[str, ...], name: str, at: int) -> int:
    seconds = policy.duration(values[0]) if len(values) == 1 else None
    if seconds is None:
        raise _Malformed(at, f"{name} takes one span such as 30m, 12h or 7d.")
    return seconds


def _word(value: str, name: str, words: tuple[str, ...], at: int) -> str:
    if name == "state":
        value = str(words.index(value)) if value in words else value
        if value.isascii() and value.isdigit() and int(value) < len(words):
            return str(int(value))
    elif value in words:
        return value
    raise _Malformed(at, f"{value[:40]!r} is no {name}; {_near(value, words)}")


def _near(name: str, known: Iterable[str]) -> str:
    """The nearest of the known names, or all of them if none is near."""
    best = min(known, key=lambda one: (_distance(name, one), one))
    if _distance(name, best) <= max(1, len(name) // 3):
        return f"did you mean {best!r}?"
    return f"there are {', '.join(known)}."


def _distance(one: str, other: str) -> int:
    """How many single characters are to be changed, added or dropped."""
    before = list(range(len(other) + 1))
    for row, mine in enumerate(one[:_LONGEST_WORD], 1):
        now = [row]
        for column, theirs in enumerate(other, 1):
            now.append(min(before[column] + 1, now[-1] + 1, before[column - 1] + (mine != theirs)))
        before = now
    return before[-1]


_LONGEST_WORD = 40


def quoted(value: str) -> str:
    """A value as it stands in a filter's text."""
    if value and not re.search(r'[\s,"\\]', value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
