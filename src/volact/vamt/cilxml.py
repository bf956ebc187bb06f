"""The machines in an old VAMT's own computer list, which is XML (V7, T30; RIGS.md "Formats").

- Names, domains and hardware addresses are taken, and that the machines run Windows; products and keys are not. The "secure
  export" of the old one has no names: nothing can be taken from it, and that is said.
- No document type, no entities, nothing from outside; bytes, depth, elements and machines have limits. The parser is
  expat; nothing is kept but the machine that is being read.
- An element's property is taken as an attribute or as an element within it, in any namespace.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

from volact.protocol.problems import Refusal, Refused, printable
from volact.vamt.discovering import names
from volact.vamt.inventory import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SOURCE = "cil-xml"
MOST_BYTES = 512 * 1024 * 1024
MOST_DEPTH = 32
MOST_ELEMENTS = 20_000_000
MOST_MACHINES = 200_000
MOST_TEXT = 4096
"""Characters of a text within an element; what follows is left out."""
_ROOT, _MACHINE, _MACS = "softwarelicensingdata", "computer", "macaddresses"
_PROPERTIES = ("name", "networktype", "networkname")
_MOST_MACS = 64


def read(pieces: Iterable[bytes]) -> Iterator[Sighting]:
    """The machines in an old VAMT's list, given in pieces of any size.

    Raises:
        Refused: `list-malformed`, with line and column; what came before has been given by then.
    """
    reader = _Reader()
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MOST_BYTES:
            _refuse(f"It is larger than {MOST_BYTES} bytes.")
        yield from reader.feed(piece)
    yield from reader.feed(b"", last=True)
    if reader.machines and not reader.named:
        _refuse("None of its machines has a name: it is a secure export, which names none.")


def _refuse(detail: str) -> NoReturn:
    raise Refused(Refusal("list-malformed", detail))


class _Reader:
    """Reads as the bytes come.

    Attributes:
        machines: how many there were.
        named: how many of them had a name.
    """

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._forbidden
        self._parser.EntityDeclHandler = self._forbidden
        self._parser.ExternalEntityRefHandler = self._forbidden
        self._path: list[str] = []
        self._text = ""
        self._elements = 0
        self._said: dict[str, str] = {}
        self._macs: list[str] = []
        self._found: list[Sighting] = []
        self.machines = self.named = 0

    def feed(self, piece: bytes, *, last: bool = False) -> list[Sighting]:
        """The machines that are whole with this piece."""
        try:
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            self._stop(expat.ErrorString(error.code))
        except (
            LookupError,
            ValueError,
        ):  # what expat asks Python for, and Python has not, or not byte by byte
            self._stop("its encoding is not read here; save it as UTF-8")
        found, self._found = self._found, []
        return found

    def _stop(self, why: str) -> NoReturn:
        line, column = self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1
        _refuse(f"Line {line}, column {column}: {why}.")

    def _forbidden(self, *_: object) -> NoReturn:
        self._stop("a document type or an entity, which no computer list has")

    def _start(self, full_name: str, attributes: dict[str, str]) -> None:
        name = _local(full_name)
        self._elements += 1
        if len(self._path) == MOST_DEPTH:
            self._stop(f"elements are more than {MOST_DEPTH} deep")
        if self._elements > MOST_ELEMENTS:
            self._stop(f"more than {MOST_ELEMENTS} elements")
        if not self._path and name != _ROOT:
            self._stop(f"it begins with {printable(name[:40])!r} and not with SoftwareLicensingData")
        self._path.append(name)
        self._text = ""
        if name == _MACHINE:
            self.machines += 1
            if self.machines > MOST_MACHINES:
                self._stop(f"more than {MOST_MACHINES} machines")
            self._macs = []
            self._said = {_local(key): value for key, value in attributes.items()}

    def _characters(self, text: str) -> None:
        self._text = (self._text + text)[:MOST_TEXT]

    def _end(self, _full_name: str) -> None:
        name, text = self._path.pop(), self._text
        self._text = ""
        above = self._path[-1] if self._path else ""
        if above == _MACHINE and name in _PROPERTIES:
            self._said[name] = text.strip()
        if _MACS in (name, above):
            self._macs += [one for part in re.split(r"[\s,;]+", text) if (one := names.mac(part))]
            del self._macs[_MOST_MACS:]
        if name == _MACHINE:
            found = self._sighting()
            if found:
                self.named += 1
                self._found.append(found)

    def _sighting(self) -> Sighting | None:
        name = self._said.get("name", "")
        in_domain = "domain" in self._said.get("networktype", "domain").lower()
        domain = self._said.get("networkname", "") if in_domain else ""
        host = names.host(f"{name}.{domain}") if domain and "." not in name else None
        host = host or names.host(name)
        if host is None:
            return None
        macs = tuple(dict.fromkeys(self._macs))
        return Sighting(SOURCE, host.name, host.domain, platform="windows", macs=macs)


def _local(full_name: str) -> str:
    """An element's name without its namespace, lower case."""
    return full_name.rpartition(" ")[2].lower()
