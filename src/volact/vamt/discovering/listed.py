"""Machines from a CSV file (V1, V7): read line by line, so that a million rows need no memory.

The first line names the columns, in any order: ``name, domain, address, port, transport, group, mac, platform``. Between
them stand commas, semicolons or TABs, as the first line shows. Several addresses or MACs in a cell are parted by blanks.

- A row with a wrong value or a wrong number of cells is left out with line and column, and the others are read on.
- A file whose form is broken, so that nobody knows where the next row begins, is refused with line and column.
"""

from __future__ import annotations

import csv
import difflib
import ipaddress
from typing import IO, TYPE_CHECKING, NamedTuple, NoReturn

from volact.protocol.problems import Refusal, Refused
from volact.vamt.discovering import names
from volact.vamt.discovering.names import Found, Host, Skipped
from volact.vamt.inventory import Sighting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

COLUMNS = ("name", "domain", "address", "port", "transport", "group", "mac", "platform")
TRANSPORTS = ("ssh", "winrm", "local")
MOST_LINE = 65_536
"""Bytes of a line; a file with a longer one is no list."""
_MOST_RECORD = 2 * MOST_LINE
"""Characters of a row that goes over several lines; a quote that is never closed ends here."""
_MOST_GROUP, _MOST_PORT = 64, 65_535
_SEPARATORS = ",;\t"


def discover(file: IO[bytes], group: str = "") -> Iterator[Found]:
    """The machines of a CSV file; `group` is for the rows that name none.

    Raises:
        Refused: `list-malformed`, with line and column.
    """
    lines = _Lines(file)
    first = next(lines, "")
    separator = _separator(first)
    columns = _columns(first, separator)
    lines.forget()
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            _broken(lines, separator, str(error))
        if row is None:
            return
        if row and any(row):
            if len(row) != len(columns):
                yield _ragged(lines, separator, len(row), len(columns))
            else:
                found = _sighting(dict(zip(columns, row, strict=True)), group)
                yield found if isinstance(found, Sighting) else _skipped(lines, separator, columns, found)
        lines.forget()


class _Lines:
    """The file's lines as text, and those of the row that is being read: for saying where something is."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._number = 0
        self.first = 1
        """The line with which the row begins."""
        self.row: list[str] = []
        """Its lines so far."""
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MOST_LINE + 1)
        if not line:
            raise StopIteration
        self._number += 1
        if len(line) > MOST_LINE:
            _wrong(f"it is longer than {MOST_LINE:,} bytes", self._number, MOST_LINE + 1)
        if self._number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            column = len(line[: error.start].decode()) + 1
            _wrong("there it is not UTF-8; save the file as UTF-8", self._number, column)
        if "\0" in text:
            _wrong("there is a NUL", self._number, text.index("\0") + 1)
        self.row.append(text)
        self._size += len(text)
        if self._size > _MOST_RECORD:
            _wrong(f"a quote is opened and not closed for {_MOST_RECORD:,} characters", self.first, 1)
        return text

    def forget(self) -> None:
        """Begin a row."""
        self.row.clear()
        self._size = 0
        self.first = self._number + 1

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of a character of the row."""
        before = "".join(self.row)[:offset]
        return self.first + before.count("\n"), len(before) - before.rfind("\n")


# --- the first line -----------------------------------------------------------------------------------------------


def _separator(line: str) -> str:
    """What stands between the columns: that of which most known names come."""

    def known(separator: str) -> int:
        return sum(_plain(cell) in COLUMNS for cell in line.split(separator))

    return max(_SEPARATORS, key=lambda one: (known(one), line.count(one)))


def _plain(cell: str) -> str:
    return cell.strip().strip('"').strip().lower()


def _columns(line: str, separator: str) -> list[str]:
    if not line.strip():
        _wrong(f"the first line names no columns; they are {', '.join(COLUMNS)}", 1, 1)
    found: list[str] = []
    start = 0
    for cell in line.split(separator):
        name = _plain(cell)
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, 1)
            meant = f"{near[0]} is meant?" if near else f"they are {', '.join(COLUMNS)}"
            _wrong(f"there is no column {names.shown(name)}; {meant}", 1, start + 1)
        if name in found:
            _wrong(f"the column {name} stands there twice", 1, start + 1)
        found.append(name)
        start += len(cell) + 1
    if "name" not in found and "address" not in found:
        _wrong("there is neither a column name nor a column address", 1, 1)
    return found


# --- a row --------------------------------------------------------------------------------------------------------


class _Bad(NamedTuple):
    """A wrong value: in which column, and why."""

    column: str
    reason: str


def _sighting(row: dict[str, str], group: str) -> Sighting | _Bad:
    host = _host(row.get("name", ""), row.get("domain", ""))
    if isinstance(host, _Bad):
        return host
    addresses = _each(row, "address", names.address)
    macs = _each(row, "mac", names.mac)
    port = _port(row.get("port", ""))
    transport = row.get("transport", "").strip().lower()
    into = row.get("group", "").strip() or group
    if isinstance(addresses, _Bad):
        return addresses
    if isinstance(macs, _Bad):
        return macs
    if isinstance(port, _Bad):
        return port
    if transport and transport not in TRANSPORTS:
        return _Bad("transport", f"{names.shown(transport)} is none of {', '.join(TRANSPORTS)}")
    if transport == "local" and not all(map(_is_own, addresses)):
        return _Bad("transport", "local is the machine that VAMT runs on, and the address may be another's")
    if not into.isprintable() or len(into) > _MOST_GROUP:
        return _Bad("group", f"{names.shown(into)} is no name of a group")
    if not host.name and not addresses:
        return _Bad("", "it has neither a name nor an address")
    system = row.get("platform", "").strip().lower()
    platform = names.platform(system) or system
    if not platform.isprintable() or len(platform) > _MOST_GROUP:
        return _Bad("platform", f"{names.shown(platform)} is no name of a system")
    return Sighting("csv", host.name, host.domain, addresses, port, transport, platform, macs, group=into)


def _is_own(address: str) -> bool:
    """Whether an address is no other machine's: what is asked as ``local`` would be taken for that one."""
    return ipaddress.ip_address(address).is_loopback


def _host(name: str, domain: str) -> Host | _Bad:
    if not name.strip():
        return Host("") if not domain.strip() else _Bad("domain", "there is a domain, but no name")
    host = names.host(name)
    if host is None:
        return _Bad("name", f"{names.shown(name)} is no name of a host")
    if not domain.strip():
        return host
    whole = names.host(f"{host.name}.{domain.strip()}")
    if whole is None:
        return _Bad("domain", f"{names.shown(domain)} is no domain")
    if host.domain and host.domain != whole.domain:
        return _Bad("domain", f"the name is in {host.domain}")
    return whole


def _each(row: dict[str, str], column: str, read: Callable[[str], str | None]) -> tuple[str, ...] | _Bad:
    found = []
    for part in row.get(column, "").split():
        one = read(part)
        if one is None:
            return _Bad(column, f"{names.shown(part)} is no {column} of a machine")
        found.append(one)
    return tuple(dict.fromkeys(found))


def _port(text: str) -> int | _Bad | None:
    text = text.strip()
    if not text:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(_MOST_PORT)) else 0
    return number if 1 <= number <= _MOST_PORT else _Bad("port", f"{names.shown(text)} is no port")


# --- where something is -------------------------------------------------------------------------------------------


class _Scan(NamedTuple):
    """A row as `csv` reads it, but with places.

    Attributes:
        starts: at which character each cell begins.
        trouble: where it is broken; None if it is not.
        reason: and why.
    """

    starts: list[int]
    trouble: int | None = None
    reason: str = ""


def _scan(row: str, separator: str) -> _Scan:
    starts, at = [0], 0
    while True:
        if row.startswith('"', at):
            opened, at = at, _after_quote(row, at)
            if not at:
                return _Scan(starts, opened, "a quote is opened there and never closed")
            if row[at : at + 1] not in (separator, "\r", "\n", ""):
                return _Scan(starts, at, "after a closing quote stands something else")
        found = row.find(separator, at)
        if found < 0:
            return _Scan(starts)
        at = found + 1
        starts.append(at)


def _after_quote(row: str, at: int) -> int:
    """Behind the quote that closes the one at `at`; 0 if none does. Two quotes are one of the text."""
    while True:
        at = row.find('"', at + 1)
        if at < 0:
            return 0
        if not row.startswith('"', at + 1):
            return at + 1
        at += 1


def _skipped(lines: _Lines, separator: str, columns: Sequence[str], bad: _Bad) -> Skipped:
    starts = _scan("".join(lines.row), separator).starts
    line, column = lines.place(starts[columns.index(bad.column)] if bad.column else 0)
    return Skipped(f"line {line}, column {column}", bad.reason)


def _ragged(lines: _Lines, separator: str, cells: int, columns: int) -> Skipped:
    row = "".join(lines.row).rstrip("\r\n")
    starts = _scan(row, separator).starts
    line, column = lines.place(starts[columns] if cells > columns else len(row))
    return Skipped(
        f"line {line}, column {column}", f"the row has {cells} cells, and there are {columns} columns"
    )


def _broken(lines: _Lines, separator: str, said: str) -> NoReturn:
    scan = _scan("".join(lines.row), separator)
    _wrong(scan.reason or said, *lines.place(scan.trouble or 0))


def _wrong(detail: str, line: int, column: int) -> NoReturn:
    extra = (("line", line), ("column", column))
    raise Refused(Refusal("list-malformed", f"Line {line}, column {column}: {detail}.", extra))
