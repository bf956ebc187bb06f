"""``volact vamt import``, ``acquire``, ``apply``, ``trust``, ``lists`` and ``receipt`` (P1 to P5, V7)."""

from __future__ import annotations

from functools import partial
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated, BinaryIO

from cyclopts import Parameter

from volact import calls, commands
from volact.commands import WHOLE, Json
from volact.console import DONE, REFUSED, Console
from volact.files import PRIVATE, make_folder
from volact.protocol import ids
from volact.protocol.problems import UsageError
from volact.vamt import cil, cilxml, desk, intake, proxymachines, proxyshow, receipts
from volact.vamt.collectcommands import limits_of, logins_of
from volact.vamt.desk import All, Group, ViewName, Where  # noqa: TC001 - cyclopts reads the annotations
from volact.vamt.logincommands import Passphrase  # noqa: TC001 - cyclopts reads the annotations
from volact.vamt.proxyshow import ListId  # noqa: TC001 - cyclopts reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterable

    from volact.vamt.desk import Desk

_STEP = 10_000
_PIECE = 1 << 16
_MOST_STATUS = calls.MAX_ANSWER
_STATUS = b'"token"'
# --- import -----------------------------------------------------------------------------------------------------


def import_(
    file: Annotated[
        Path, Parameter(name="FILE", help="A computer list, a status list, or an old VAMT's list in XML.")
    ],
    /,
    *,
    json: Json = False,
) -> int:
    """Take in a list that came on a medium, row by row: outside its questions, inside their answers.

    Twice is once. Of a damaged list only what the publisher signed counts. Names in a list count if its writer is pinned.
    """
    console = Console(json=json)
    try:
        with file.open("rb") as opened, desk.desk() as at:
            first = opened.read(cil.PIECE)
            opened.seek(0)
            if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
                return _import_xml(console, at, opened, file)
            if b'"chain"' in first.partition(b"\n")[0] and _STATUS in first:
                return _import_status(console, at, opened.read(_MOST_STATUS + 1))
            return _import_list(console, at, opened, file)
    except OSError as error:
        raise commands.not_readable(file, error) from None


def _import_xml(console: Console, at: Desk, opened: BinaryIO, file: Path) -> int:
    def pieces() -> Iterable[bytes]:
        return iter(lambda: opened.read(_PIECE), b"")

    for _ in cilxml.read(pieces()):
        pass  # the whole file first: nothing of a malformed one is taken in
    opened.seek(0)
    taken = at.vamt.machines.take_sightings(
        at.person, cilxml.read(pieces()), source=f"cil-xml {file.name[:200]}"
    )
    console.answer(
        {"kind": "cil-xml", **taken._asdict()},
        f"{taken.machines} machines, {taken.new} of them new\nNext: volact vamt collect",
    )
    return DONE


def _import_status(console: Console, at: Desk, data: bytes) -> int:
    pub, version = at.vamt.acquiring.take_status(at.person, data)
    console.answer(
        {"kind": "status-list", "publisher": pub, "version": version},
        f"status list {version} of publisher {pub}",
    )
    return DONE


def _import_list(console: Console, at: Desk, opened: BinaryIO, file: Path) -> int:
    def tell(done: int, of: int) -> None:
        if done % _STEP < cil.MAX_ROWS // 1000 and of > _STEP and done >= _STEP:
            console.remark(f"{done} of {of} rows")

    taken = at.vamt.intake.import_(at.person, opened, tell)
    machines = None
    trusted = taken.writer is not None and taken.writer.trusted
    if trusted and not taken.damage and taken.ref is None:
        found = intake.sightings(opened)
        machines = at.vamt.machines.take_sightings(at.person, found, source=f"cil {file.name[:200]}").machines
    counts: dict[str, int] = {}
    for one in taken.outcomes:
        counts[one.state] = counts.get(one.state, 0) + 1
    said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no row"
    lines = [f"{file}: {said}"]
    if taken.damage:
        lines.append(f"The list is damaged: {taken.damage}. Only what the publisher signed was taken.")
    if taken.writer is not None and not trusted:
        lines.append(
            f"Its writer is not known here: {taken.writer.fp}. Compare it with what `init` said there; then\n"
            f"  volact vamt trust {taken.writer.fp}"
        )
    if taken.older:
        lines.append("A later list of the same writer was taken in before.")
    next_step = "volact vamt acquire" if taken.ref is None else "volact vamt apply"
    prose = "\n".join(lines) + proxyshow.prose(
        [one for one in taken.outcomes if one.refusal or one.state == "open"], "to look at"
    )
    writer = taken.writer
    console.answer(
        {
            "kind": "questions" if taken.ref is None else "answers",
            "list": taken.lid or None,
            "answers": taken.ref,
            "publisher": taken.pub or None,
            "writer": {"fingerprint": writer.fp, "name": writer.name, "trusted": writer.trusted}
            if writer
            else None,
            "again": taken.again,
            "older": taken.older,
            "damage": taken.damage or None,
            "counts": counts,
            "machines": machines,
            "outcomes": proxyshow.outcomes_json(taken.outcomes),
        },
        f"{prose}\nNext: {next_step} {taken.ref or taken.lid}".rstrip(),
    )
    return REFUSED if taken.outcomes and set(counts) <= {intake.DROPPED} else DONE


# --- acquire, apply ---------------------------------------------------------------------------------------------


def acquire(lid: ListId = "", /, *, json: Json = False) -> int:
    """Ask the publisher's authority for what the rows of a list that came in ask for; only those without an answer.

    What is answered is kept at once: after an interruption or a top-up of the key the same command goes on.
    """
    console = Console(json=json)
    with desk.desk() as at:
        wanted = proxyshow.list_id(at, lid, receipts.IN)
        done = at.vamt.acquiring.acquire(
            at.person,
            wanted,
            calls.Caller,
            lambda now, of: console.remark(f"{now} of {of} rows have their answer"),
        )
    left = [one for one in done.outcomes if one.state in (receipts.OPEN, receipts.REFUSED)]
    missing = done.status_list
    if missing:
        console.remark(f"The status list was not fetched: {missing}")
    console.answer(
        {
            "list": wanted, "answered": done.answered, "before": done.before, "left": len(left),
            "status_list": missing.document() if missing else None, "outcomes": proxyshow.outcomes_json(done.outcomes),
        },
        f"{done.answered} rows were answered, {done.before} had been before, {len(left)} have no answer"
        + proxyshow.prose(left, "without an answer")
        + f"\nNext: volact vamt export FILE.cil --answers {wanted}",
    )  # fmt: skip
    return REFUSED if left and not done.answered + done.before else DONE


def apply(
    lid: ListId = "",
    /,
    *,
    kept: Annotated[
        bool,
        Parameter(help="Instead of a list: activate selected machines again from confirmations kept here."),
    ] = False,
    machine: Annotated[
        tuple[str, ...],
        Parameter(help="With --kept: a machine; may be given several times.", allow_leading_hyphen=True),
    ] = (),
    where: Where = "",
    group: Group = "",
    view: ViewName = "",
    all_: All = False,
    into: Annotated[
        Path | None, Parameter(help="Write them to files in this folder instead, to be carried by hand.")
    ] = None,
    again: Annotated[bool, Parameter(help="Also what is in force already.")] = False,
    limit: Annotated[int | None, WHOLE, Parameter(help="Seconds for one machine.")] = None,
    passphrase: Passphrase = None,
    json: Json = False,
) -> int:
    """MAK Proxy Activate: bring the confirmations that came back to their machines.

    A confirmation fits a machine by product and hardware. With --kept nothing is counted and the publisher is not asked:
    that is for machines that were rebuilt on the same hardware.
    """
    console = Console(json=json)
    chosen = desk.selection(machine, where, group, view, every=all_)
    if kept == bool(lid) and lid:
        raise UsageError("Give a list, or --kept and a selection.")
    if any(chosen) and not kept:
        raise UsageError("A selection goes with --kept; a list brings its own rows.")
    if into is not None:
        make_folder(into)
    with desk.desk() as at:
        if into is None:
            limits, logins = limits_of(at, None, limit, accept_new=False), logins_of(at, passphrase)
            bring = proxymachines.applier(proxyshow.targets(at, logins), logins, limits)
        else:
            bring = proxymachines.filer(partial(_write_into, into))
        if kept:
            done = at.vamt.applying.reactivate(at.person, chosen, bring)
        else:
            done = at.vamt.applying.apply(
                at.person, proxyshow.list_id(at, lid, receipts.OUT), bring, again=again
            )
    failed = [one for one in done if one.refusal]
    console.answer(
        {
            "applied": len(done) - len(failed),
            "failed": len(failed),
            "outcomes": proxyshow.outcomes_json(done),
        },
        f"{len(done) - len(failed)} applied, {len(failed)} failed" + proxyshow.prose(failed, "failed"),
    )
    return REFUSED if failed and len(failed) == len(done) else DONE


def _write_into(folder: Path, name: str, data: bytes) -> None:
    commands.write(folder / name, data, PRIVATE)


# --- trust, lists, receipts ---------------------------------------------------------------------------------------


def trust(
    fingerprint: Annotated[
        str,
        Parameter(name="FINGERPRINT", help="What `volact vamt init` said there.", allow_leading_hyphen=True),
    ] = "",
    /,
    *,
    name: Annotated[str, Parameter(help="What that VAMT is called here.")] = "",
    forget: Annotated[bool, Parameter(help="Pin it no more.")] = False,
    json: Json = False,
) -> None:
    """Pin another VAMT, so that names in its computer lists count; without a fingerprint list those that were met."""
    console = Console(json=json)
    if not name.isprintable() or len(name) > _MOST_NAME:
        raise UsageError(f"--name has at most {_MOST_NAME} printable characters.")
    if fingerprint and not ids.is_thumbprint(fingerprint):
        raise UsageError(f"{fingerprint[:60]!r} is no fingerprint: it has 43 characters.")
    with desk.desk() as at:
        if fingerprint:
            found = [at.vamt.proxy.trust(at.person, fingerprint, name, trusted=not forget)]
        else:
            found = at.vamt.proxy.writers(at.person)
    commands.show(
        console,
        [
            {
                "fingerprint": one.fp,
                "name": one.name or None,
                "trusted": one.trusted,
                "met": commands.when(one.met),
            }
            for one in found
        ],
        [
            (one.fp, one.name, "pinned" if one.trusted else "not pinned", commands.when(one.met))
            for one in found
        ],
        ("fingerprint", "name", "trust", "met"),
        "No other VAMT was met yet.",
    )


_MOST_NAME = 200


def lists(
    *,
    limit: Annotated[int, WHOLE, Parameter(help="At most so many; by default 20.")] = 20,
    json: Json = False,
) -> None:
    """List the computer lists that went out and came in, newest first."""
    desk.check_page(limit)
    with desk.desk() as at:
        found = at.vamt.proxy.lists(at.person, limit)
    commands.show(
        Console(json=json),
        [{**proxyshow.list_json(one), "states": states} for one, states in found],
        [
            (one.lid, one.direction, one.mode, one.rows, commands.when(one.at), one.who,
             ", ".join(f"{count} {state}" for state, count in sorted(states.items())))
            for one, states in found
        ],
        ("list", "direction", "mode", "rows", "time", "who", "states"),
        "There is none yet. Write one: volact vamt export FILE.cil --help",
    )  # fmt: skip


def receipt(lid: ListId = "", /, *, json: Json = False) -> None:
    """Show what became of each row of a list: which machine, which key, when, and through whom."""
    with desk.desk() as at:
        found, rows = at.vamt.proxy.receipt(at.person, proxyshow.list_id(at, lid, receipts.OUT, receipts.IN))
    told = [
        {
            **proxyshow.outcomes_json([said])[0],
            "cmid": None if said.machine != item.mid else item.mid,
            "time": None if item.at is None else commands.when(item.at),
            "who": item.who,
        }
        for item, said in rows
    ]
    head = ("machine", "product", "what", "key", "state", "why", "time", "who")
    cells = [
        (*proxyshow.cells(said), "" if item.at is None else commands.when(item.at), item.who)
        for item, said in rows
    ]
    commands.show(
        Console(json=json),
        {**proxyshow.list_json(found), "outcomes": told},
        cells,
        head,
        "It has no row here.",
    )
