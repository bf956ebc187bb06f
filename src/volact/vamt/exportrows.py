"""The rows and columns of the tables that VAMT writes: machines and products, and the audit log (V7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from volact.vamt import exports, people, reporting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from volact.vamt.people import Person
    from volact.vamt.selecting import Selection
    from volact.vamt.vamt import Vamt

MACHINES, LOG = "machines", "log"
COLUMNS = {
    MACHINES: (
        "id", "name", "domain", "address", "groups", "platform", "system", "virtual", "hypervisor", "first_seen",
        "last_seen", "collected", "outcome", "detail", "publisher", "product", "state", "state_name", "channel",
        "partial_key", "granted", "expires", "host", "reason", "proof",
    ),
    LOG: ("number", "time", "who", "role", "action", "what", "rows", "result", "detail"),
}  # fmt: skip
"""The columns of each table."""
_PAGE = 1000


def write(vamt: Vamt, person: Person, kind: str, out: BinaryIO, selection: Selection | None) -> int:
    """Write a table of `kind` to `out`: the machines of a filter, a group or a view, or with None the log; how many rows.

    Who carries everything away at once is in the log, though they may look at each row.

    Raises:
        Refused: `role-insufficient`, or as `Machines.list`.
        UsageError: as `exports.write`.
    """
    what = {"table": LOG} if selection is None else {"table": MACHINES, "selection": selection.said()}
    with vamt.office.acting(person, people.EXPORT_TABLE, {**what, "kind": kind}) as deed:
        if selection is None:
            deed.rows = exports.write(kind, COLUMNS[LOG], _log(vamt, person), out)
        else:
            deed.rows = exports.write(kind, COLUMNS[MACHINES], _machines(vamt, person, selection), out)
    return deed.rows


def _machines(vamt: Vamt, person: Person, chosen: Selection) -> Iterator[dict[str, Any]]:
    """A row for each machine and product, read page by page."""
    offset = 0
    while True:
        listed = vamt.machines.list(
            person, chosen.where, limit=_PAGE, offset=offset, group=chosen.group, view=chosen.view
        )
        yield from reporting.rows(listed, offset)["rows"]
        offset += len(listed.page.rows)
        if offset >= listed.page.total or not listed.page.rows:
            return


def _log(vamt: Vamt, person: Person) -> Iterator[dict[str, Any]]:
    """The rows of the audit log, the newest first, as many as a sheet holds."""
    for one in vamt.access.log(person, limit=exports.MOST_SHEET_ROWS - 1):
        yield reporting.entry(one)
