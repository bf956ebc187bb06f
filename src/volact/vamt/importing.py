"""Taking in a file whatever it is: a computer list, a publisher's status list, or an old VAMT's list in XML (V7, P1, M5).

Which of them it is says its beginning. Of a list of questions that is whole the machines are taken in besides, if its
writer is pinned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from volact.vamt import cil, cilxml, intake, proxyshow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from volact.vamt.intake import Taken
    from volact.vamt.machines import Taken as Found
    from volact.vamt.people import Person
    from volact.vamt.vamt import Vamt

XML, STATUS, QUESTIONS, ANSWERS = "cil-xml", "status-list", "questions", "answers"
KINDS = (XML, STATUS, QUESTIONS, ANSWERS)
_PIECE = 1 << 16
_MOST_NAME = 200


class Imported(NamedTuple):
    """What a file came to.

    Attributes:
        kind: one of `KINDS`.
        found: of XML: the machines that it names.
        status: of a status list: its publisher and version.
        taken: of a computer list: what became of its rows.
        machines: how many machines a list of questions told of; None if it was not believed about them.
    """

    kind: str
    found: Found | None = None
    status: tuple[str, int] | None = None
    taken: Taken | None = None
    machines: int | None = None

    def counts(self) -> dict[str, int]:
        """How many rows of a computer list came to which state."""
        counts: dict[str, int] = {}
        for one in self.taken.outcomes if self.taken else ():
            counts[one.state] = counts.get(one.state, 0) + 1
        return counts

    @property
    def is_believed(self) -> bool:
        """Whether the writer of a computer list is pinned."""
        return bool(self.taken and self.taken.writer and self.taken.writer.trusted)

    @property
    def is_dropped(self) -> bool:
        """Whether every row of a computer list was dropped."""
        return bool(self.taken and self.taken.outcomes) and set(self.counts()) <= {intake.DROPPED}

    def told(self) -> dict[str, Any]:
        """What it came to, as JSON."""
        if self.found is not None:
            return {"kind": self.kind, **self.found._asdict()}
        if self.status is not None:
            return {"kind": self.kind, "publisher": self.status[0], "version": self.status[1]}
        return {"kind": self.kind, **_list_json(self), "outcomes": _outcomes(self)}


def take_in(
    vamt: Vamt,
    person: Person,
    file: BinaryIO,
    name: str,
    tell: Callable[[int, int], None] | None = None,
) -> Imported:
    """Take in a file, which people know by `name`; `tell` is told how many of how many rows were looked at.

    Raises:
        Refused, DocumentRefused: as `Intake.import_`, `Acquiring.take_status` and `cilxml.read`.
    """
    first = file.read(cil.PIECE)
    file.seek(0)
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return Imported(XML, found=_xml(vamt, person, file, name))
    if b'"chain"' in first.partition(b"\n")[0] and b'"token"' in first:
        from volact import calls  # noqa: PLC0415 - for how much is taken of a list, however it comes

        return Imported(STATUS, status=vamt.acquiring.take_status(person, file.read(calls.MAX_ANSWER + 1)))
    taken = vamt.intake.import_(person, file, tell)
    made = Imported(QUESTIONS if taken.ref is None else ANSWERS, taken=taken)
    if made.is_believed and not taken.damage and taken.ref is None:
        source = f"cil {name[:_MOST_NAME]}"
        found = vamt.machines.take_sightings(person, intake.sightings(file), source=source)
        made = made._replace(machines=found.machines)
    return made


def _xml(vamt: Vamt, person: Person, file: BinaryIO, name: str) -> Found:
    def pieces() -> Iterator[bytes]:
        return iter(lambda: file.read(_PIECE), b"")

    for _ in cilxml.read(pieces()):
        pass  # the whole file first: nothing of a malformed one is taken in
    file.seek(0)
    source = f"cil-xml {name[:_MOST_NAME]}"
    return vamt.machines.take_sightings(person, cilxml.read(pieces()), source=source)


def _list_json(made: Imported) -> dict[str, Any]:
    taken = made.taken
    if taken is None:
        return {}
    writer = taken.writer
    return {
        "list": taken.lid or None,
        "answers": taken.ref,
        "publisher": taken.pub or None,
        "writer": {"fingerprint": writer.fp, "name": writer.name, "trusted": writer.trusted}
        if writer
        else None,
        "again": taken.again,
        "older": taken.older,
        "damage": taken.damage or None,
        "counts": made.counts(),
        "machines": made.machines,
    }


def _outcomes(made: Imported) -> list[dict[str, Any]]:
    return proxyshow.outcomes_json(made.taken.outcomes if made.taken else [])
