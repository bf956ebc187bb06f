"""``volact vamt import``, ``acquire``, ``apply``, ``trust``, ``lists`` and ``receipt`` (P1 to P5, V7)."""

from __future__ import annotations

from functools import partial
from pathlib import Path  # noqa: TC003 - cyclopts reads the annotations
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import DONE, REFUSED, Console
from volact.files import PRIVATE, make_folder
from volact.protocol import ids
from volact.protocol.problems import UsageError
from volact.vamt import cil, desk, importing, proxymachines, proxyshow, receipts
from volact.vamt.collectcommands import limits_of, logins_of
from volact.vamt.desk import All, Group, ViewName, Where  # noqa: TC001 - cyclopts reads the annotations
from volact.vamt.logincommands import Passphrase  # noqa: TC001 - cyclopts reads the annotations
from volact.vamt.proxyshow import ListId  # noqa: TC001 - cyclopts reads the annotations

if TYPE_CHECKING:
    from volact.vamt.importing import Imported

_STEP = 10_000
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

    def tell(done: int, of: int) -> None:
        if done % _STEP < cil.MAX_ROWS // 1000 and of > _STEP and done >= _STEP:
            console.remark(f"{done} of {of} rows")

    try:
        with file.open("rb") as opened, desk.desk() as at:
            done = importing.take_in(at.vamt, at.person, opened, file.name, tell)
    except OSError as error:
        raise commands.not_readable(file, error) from None
    console.answer(done.told(), _imported(file, done))
    return REFUSED if done.is_dropped else DONE


def _imported(file: Path, done: Imported) -> str:
    """What a file came to, for people."""
    if done.found:
        return f"{done.found.machines} machines, {done.found.new} of them new\nNext: volact vamt collect"
    if done.status:
        return f"status list {done.status[1]} of publisher {done.status[0]}"
    taken = done.taken
    if taken is None:
        return ""
    said = ", ".join(f"{count} {state}" for state, count in sorted(done.counts().items())) or "no row"
    lines = [f"{file}: {said}"]
    if taken.damage:
        lines.append(f"The list is damaged: {taken.damage}. Only what the publisher signed was taken.")
    if taken.writer is not None and not taken.writer.trusted and taken.ref is None:
        lines.append(
            f"Its writer is not known here: {taken.writer.fp}. Compare it with what `init` said there; then\n"
            f"  volact vamt trust {taken.writer.fp}"
        )
    if taken.older:
        lines.append("A later list of the same writer was taken in before.")
    prose = "\n".join(lines) + proxyshow.prose(
        [one for one in taken.outcomes if one.refusal or one.state == "open"], "to look at"
    )
    if taken.ref is None:
        return f"{prose}\nNext: volact vamt acquire {taken.lid}".rstrip()
    is_to_apply = any(
        one.state == receipts.ANSWERED and one.op not in ("return", "remaining") for one in taken.outcomes
    )
    return prose + (f"\nNext: volact vamt apply {taken.ref}" if is_to_apply else "")


# --- acquire, apply ---------------------------------------------------------------------------------------------


def acquire(lid: ListId = "", /, *, json: Json = False) -> int:
    """Ask the publisher's authority for what the rows of a list that came in ask for; only those without an answer.

    What is answered is kept at once: after an interruption or a top-up of the key the same command goes on.
    """
    from volact import calls  # noqa: PLC0415 - TLS is for who calls

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
        f"{done.answered} answered now, {done.before} before, {len(left)} without an answer"
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
    status_list: Annotated[
        bool,
        Parameter(help="Instead of a list: tell selected machines what the publisher's status list says."),
    ] = False,
    machine: Annotated[
        tuple[str, ...],
        Parameter(
            help="With --kept or --status-list: a machine; may be given several times.",
            allow_leading_hyphen=True,
        ),
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
    that is for machines that were rebuilt on the same hardware. With --status-list they learn what is blocked or returned.
    """
    console = Console(json=json)
    chosen = desk.selection(machine, where, group, view, every=all_)
    if kept + status_list + bool(lid) > 1:
        raise UsageError("Give a list, or --kept or --status-list and a selection.")
    if any(chosen) and not kept and not status_list:
        raise UsageError("A selection goes with --kept or --status-list; a list brings its own rows.")
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
        elif status_list:
            done = at.vamt.applying.bring_list(at.person, chosen, bring)
        else:
            done = at.vamt.applying.apply(
                at.person, proxyshow.list_id(at, lid, receipts.OUT), bring, again=again
            )
    failed = [one for one in done if one.refusal]
    good = len(done) - len(failed)
    what = "applied" if into is None else f"written into {into}"
    console.answer(
        {
            "applied": good if into is None else 0,
            "failed": len(failed),
            "outcomes": proxyshow.outcomes_json(done),
            "written": 0 if into is None else good,
        },
        f"{good} {what}, {len(failed)} failed" + proxyshow.prose(failed, "failed"),
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
        [proxyshow.writer_json(one) for one in found],
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
    told = proxyshow.receipt_json(rows)
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
