"""``volact vamt export``: a computer list for the VAMT outside, its answers for the one inside, or a table (P1, V7)."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import DONE, Console
from volact.files import flush_folder
from volact.protocol import trust
from volact.protocol.problems import UsageError
from volact.vamt import cil, desk, exportrows, exports, proxymachines, proxyshow, receipts
from volact.vamt.collectcommands import limits_of, logins_of
from volact.vamt.desk import All, Group, Names, ViewName, Where  # noqa: TC001 - cyclopts reads the annotations
from volact.vamt.logincommands import Passphrase  # noqa: TC001 - cyclopts reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volact.vamt.selecting import Selection

_MOST_LISTS = 1000


def export(
    file: Annotated[
        Path, Parameter(name="FILE", help="NAME.cil: a computer list; NAME.csv, .xlsx or .json: a table.")
    ],
    /,
    *machines: Names,
    where: Where = "",
    group: Group = "",
    view: ViewName = "",
    all_: All = False,
    publisher: Annotated[
        str,
        Parameter(help="Whose products; needed if several publishers are known.", allow_leading_hyphen=True),
    ] = "",
    proxy_only: Annotated[
        bool, Parameter(help="Proxy data only: no name, domain, address or MAC stands in the file.")
    ] = False,
    request: Annotated[
        tuple[Path, ...],
        Parameter(help="A request file of a KMS host or a machine, to be a row; may be given several times."),
    ] = (),
    again: Annotated[
        bool,
        Parameter(help="Also machines for which a fitting confirmation is kept here: see `apply --kept`."),
    ] = False,
    answers: Annotated[
        str,
        Parameter(
            help="Write what was acquired for this list, to go back; `newest` for the one that came in last.",
            allow_leading_hyphen=True,
        ),
    ] = "",
    log: Annotated[
        bool, Parameter(help="With .csv, .xlsx or .json: the audit log instead of machines.")
    ] = False,
    limit: Annotated[int | None, WHOLE, Parameter(help="Seconds for one machine.")] = None,
    passphrase: Passphrase = None,
    json: Json = False,
) -> int:
    """Write a computer list for the VAMT outside, what it acquired for the VAMT inside, or a table.

    For a list the selected machines are asked for the requests that are pending there, which they sign themselves: install
    a key first. With --answers the publisher's status list is written beside, as FILE.status.
    """
    console = Console(json=json)
    chosen = desk.selection(machines, where, group, view, every=all_)
    kind = file.suffix.removeprefix(".").lower()
    if kind in exports.KINDS:
        if proxy_only or request or answers or again:
            raise UsageError("A table takes a selection alone.", "Name a file NAME.cil for a computer list.")
        return _export_table(console, file, kind, chosen, log=log)
    if kind != "cil":
        raise UsageError(
            f"{file.name} says nothing about its kind.",
            f"Name it .cil, or .{', .'.join(exports.KINDS)} for a table.",
        )
    if log:
        raise UsageError("The log is no computer list.", "Name a file .csv, .xlsx or .json.")
    if answers:
        if any(chosen) or request or proxy_only or again or publisher:
            raise UsageError("--answers writes what belongs to that list, and nothing else.")
        return _export_answers(console, file, answers)
    if not any(chosen) and not request:
        raise UsageError(
            "Nothing was selected.", "Name machines, a --group, --where, --view or --all, or give --request."
        )
    bundles = [trust.read_bundle(commands.read(one, trust.MAX_BUNDLE)) for one in request]
    with desk.desk() as at:
        pub = proxyshow.publisher(at, publisher)
        ask = None
        if any(chosen):
            limits, logins = limits_of(at, None, limit, accept_new=False), logins_of(at, passphrase)
            ask = proxymachines.asker(proxyshow.targets(at, logins), logins, limits)
        done = at.vamt.proxy.export(
            at.person,
            pub,
            lambda: _written(file),
            selection=chosen if any(chosen) else None,
            ask=ask,
            bundles=bundles,
            mode=cil.PROXY if proxy_only else cil.FULL,
            again=again,
        )
    made = done.written
    told = {"list": made.lid, "file": str(file), "mode": made.mode, "seq": made.seq, "rows": made.rows}
    left = [one for one in done.outcomes if one.state != "written"]
    prose = f"{file}: {made.rows} rows, list {made.lid}" + proxyshow.prose(left, "left out")
    console.answer(
        {**told, "outcomes": proxyshow.outcomes_json(done.outcomes)},
        prose + "\nNext: carry it to the VAMT outside; there `volact vamt import FILE`.",
    )
    return DONE


def _export_answers(console: Console, file: Path, lid: str) -> int:
    with desk.desk() as at:
        asked = proxyshow.list_id(at, "" if lid == "newest" else lid, receipts.IN)
        made = at.vamt.proxy.export_answers(at.person, asked, lambda: _written(file))
        status = at.vamt.acquiring.status_file(at.person, made.pub)
    beside = file.with_name(f"{file.name}.status") if status else None
    if beside and status:
        commands.write(beside, status)
    console.answer(
        {
            "list": made.lid, "answers": asked, "file": str(file), "rows": made.rows,
            "status_list": str(beside) if beside else None,
        },
        f"{file}: {made.rows} rows for list {asked}"
        + (f"\n{beside}: the publisher's status list" if beside else "")
        + "\nNext: carry it back; there `volact vamt import FILE`.",
    )  # fmt: skip
    return DONE


def _export_table(console: Console, file: Path, kind: str, chosen: Selection, *, log: bool) -> int:
    if log and any(chosen):
        raise UsageError("The log has no machines to select.")
    if not log and (not any(chosen) or chosen.machines):
        raise UsageError("Say which machines: --all, --where, --group or --view.")
    with desk.desk() as at, _written(file) as out:
        count = exportrows.write(at.vamt, at.person, kind, out, None if log else chosen)
    console.answer({"file": str(file), "rows": count}, f"{file}: {count} rows")
    return DONE


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its place, whole and on disk, once the context has ended well; until then it is as it was (F32).

    It is its owner's alone: whole estates stand in it.

    Raises:
        BrokenData: `not-writable`.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise commands.not_writable(path, error) from None
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        flush_folder(path.parent)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise commands.not_writable(path, error) from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
