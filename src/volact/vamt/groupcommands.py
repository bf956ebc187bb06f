"""``volact vamt group`` and ``volact vamt view`` (V3)."""

from __future__ import annotations

import shlex
from typing import Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import Json  # noqa: TC001 - cyclopts reads the annotations
from volact.console import Console
from volact.vamt import desk
from volact.vamt.desk import ANY, All, Names, Narrowed, ViewName, Where

app = commands.group("group", "Groups of machines, such as SecureNetwork.")
views = commands.group("view", "Saved views: a filter and an order under a name.")
_Name = Annotated[str, Parameter(name="NAME", allow_leading_hyphen=True)]


@app.command
def create(
    name: _Name, /, *, note: Annotated[str, Parameter(help="What it is for.")] = "", json: Json = False
) -> None:
    """Make a group."""
    with desk.desk() as at:
        at.vamt.groups.create(at.person, name, note)
    Console(json=json).answer(
        {"group": name}, f"{name}\nNext: volact vamt group add {shlex.quote(name)} MACHINE ..."
    )


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List the groups."""
    with desk.desk() as at:
        found = at.vamt.groups.list(at.person)
    commands.show(
        Console(json=json),
        [
            {
                "group": one.name,
                "machines": one.machines,
                "note": one.notes or None,
                "made": commands.when(one.made),
            }
            for one in found
        ],
        [(one.name, one.machines, one.notes) for one in found],
        ("group", "machines", "note"),
        "There are no groups. Make one: volact vamt group create NAME",
    )


@app.command
def add(
    name: _Name,
    *machines: Names,
    narrowed: Narrowed = ANY,
    json: Json = False,
) -> None:
    """Put machines into a group."""
    chosen = narrowed.selection(machines)
    with desk.desk() as at:
        count = at.vamt.groups.add(at.person, name, chosen)
    Console(json=json).answer({"group": name, "added": count}, f"{name}: {count} added")


@app.command
def remove(
    name: _Name,
    *machines: Names,
    where: Where = "",
    view: ViewName = "",
    all_: All = False,
    json: Json = False,
) -> None:
    """Take machines out of a group; they stay known."""
    chosen = desk.selection(machines, where, "", view, every=all_)
    with desk.desk() as at:
        count = at.vamt.groups.take_out(at.person, name, chosen)
    Console(json=json).answer({"group": name, "removed": count}, f"{name}: {count} taken out")


@app.command
def delete(name: _Name, /, *, json: Json = False) -> None:
    """Remove a group; its machines stay."""
    with desk.desk() as at:
        at.vamt.groups.delete(at.person, name)
    Console(json=json).answer({"deleted": name}, f"{name} is deleted; its machines are still known")


# --- views --------------------------------------------------------------------------------------------------------


@views.command
def save(
    name: _Name,
    /,
    *,
    where: Where = "",
    sort: Annotated[str, Parameter(help="Order, as in `machine list`.", allow_leading_hyphen=True)] = "",
    json: Json = False,
) -> None:
    """Save a filter and an order under a name."""
    with desk.desk() as at:
        at.vamt.views.save(at.person, name, where, sort)
    Console(json=json).answer(
        {"view": name, "where": where, "sort": sort or None},
        f"{name}\nNext: volact vamt machine list --view {shlex.quote(name)}",
    )


@views.command(name="list")
def view_list(*, json: Json = False) -> None:
    """List the saved views."""
    with desk.desk() as at:
        found = at.vamt.views.list(at.person)
    commands.show(
        Console(json=json),
        [
            {"view": one.name, "where": one.filter, "sort": one.sort or None, "owner": one.owner}
            for one in found
        ],
        [(one.name, one.filter, one.sort, one.owner) for one in found],
        ("view", "where", "sort", "owner"),
        "There are no views. Save one: volact vamt view save NAME --where 'state=unlicensed'",
    )


@views.command(name="delete")
def view_delete(name: _Name, /, *, json: Json = False) -> None:
    """Remove a saved view."""
    with desk.desk() as at:
        at.vamt.views.delete(at.person, name)
    Console(json=json).answer({"deleted": name}, f"{name} is deleted")


@views.command
def fields(*, json: Json = False) -> None:
    """List what machines can be filtered by."""
    found = desk.fields()
    commands.show(
        Console(json=json),
        [{"field": name, "takes": takes, "is": text} for name, takes, text in found],
        found,
        ("field", "takes", "is"),
        "",
    )
