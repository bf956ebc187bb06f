"""The API's routes of machines, groups and views (V1, V3): each calls one use case."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Response, delete, get, post, put
from litestar.params import FromPath, JSONBody, PathParameter, QueryParameter

from volact.commands import when
from volact.protocol.problems import UsageError
from volact.vamt import byhand, reporting, searching
from volact.vamt.api import answers, bodies
from volact.vamt.api.desk import (
    USUAL_PAGE,
    At,
    By,
    IfMatch,
    IfNoneMatch,
    Limit,
    Offset,
    name_in,
    tagged,
    unchanged,
)
from volact.vamt.desk import fields
from volact.vamt.history import Happened  # noqa: TC001 - as below
from volact.vamt.selecting import Selection
from volact.vamt.views import check_name

_Where = Annotated[str, QueryParameter(description="A filter, as GET /v1/fields explains.", max_length=4000)]
_Name = Annotated[str, QueryParameter(max_length=300)]
_OneMachine = Annotated[str, PathParameter(description="Its id, name, full name or an address of it.")]


@get("/machines", sync_to_thread=True)
def list_machines(
    desk: At,
    person: By,
    where: _Where = "",
    group: _Name = "",
    view: _Name = "",
    sort: Annotated[
        str, QueryParameter(description=f"{', '.join(searching.SORTS)}; with - before it descending.")
    ] = "",
    limit: Limit = USUAL_PAGE,
    offset: Offset = 0,
) -> answers.MachinePage:
    """List machines, one row for each product on them."""
    order = searching.order_of(sort)
    if sort and order is None:
        raise UsageError(f"There is no order {sort[:40]!r}; give one of {', '.join(searching.SORTS)}.")
    found = desk.vamt.machines.list(person, where, order, limit=limit, offset=offset, group=group, view=view)
    return answers.of(answers.MachinePage, reporting.rows(found, offset))


@post("/machines", sync_to_thread=True)
def add_machine(desk: At, person: By, data: JSONBody[bodies.AddMachine]) -> answers.Added:
    """Add a machine by hand, or tell more of one that is known."""
    sighting = byhand.sighting(data.name, tuple(data.addresses), data.port, data.transport)
    byhand.note(data.note, "The note")
    group = check_name(data.group, "group") if data.group else ""
    mid, is_new = desk.vamt.machines.add(person, sighting._replace(group=group), data.note)
    return answers.Added(id=mid, new=is_new)


@get("/machines/{machine:str}", sync_to_thread=True)
def show_machine(
    desk: At, person: By, machine: _OneMachine, if_none_match: IfNoneMatch = ""
) -> Response[answers.Machine]:
    """Show all that is known of one machine; its ETag is for `If-Match` of what changes it."""
    told = reporting.machine(desk.vamt.machines.show(person, name_in(machine)))
    return tagged(answers.of(answers.Machine, told), told, if_none_match)


@get("/machines/{machine:str}/history", sync_to_thread=True)
def show_history(
    desk: At, person: By, machine: _OneMachine, limit: Limit = USUAL_PAGE
) -> list[answers.Happened]:
    """Show what was done to one machine, the newest first."""
    found = desk.vamt.history.of(person, name_in(machine), limit)
    return answers.of(list[answers.Happened], [_happened(one) for one in found])


def _happened(one: Happened) -> dict[str, Any]:
    return {
        "time": None if one.at is None else when(one.at),
        "kind": one.kind,
        "what": one.what,
        "id": one.of,
        "product": one.prd or None,
        "state": one.state,
        "code": one.code or None,
        "detail": one.detail or None,
        "who": one.who,
    }


@put("/machines/{machine:str}/note", sync_to_thread=True)
def note_machine(
    desk: At, person: By, machine: _OneMachine, data: JSONBody[bodies.Note], if_match: IfMatch = ""
) -> answers.Count:
    """Note something about one machine, in place of what was noted before."""
    byhand.note(data.text, "The note")
    chosen = Selection((name_in(machine),))
    return answers.Count(count=desk.vamt.machines.note(person, chosen, data.text, unchanged(if_match)))


@put("/machines/{machine:str}/host-keys", sync_to_thread=True)
def trust_machine(
    desk: At, person: By, machine: _OneMachine, data: JSONBody[bodies.HostKeys], if_match: IfMatch = ""
) -> answers.Added:
    """Pin a machine's SSH host keys, in place of those that sources said: compare them with the machine's own first."""
    keys = tuple(byhand.host_key(one) for one in data.host_keys)
    mid = desk.vamt.machines.trust(person, name_in(machine), keys, unchanged(if_match))
    return answers.Added(id=mid, new=False)


@delete("/machines/{machine:str}", sync_to_thread=True, status_code=200)
def remove_machine(desk: At, person: By, machine: _OneMachine, if_match: IfMatch = "") -> answers.Count:
    """Remove one machine with all that is known of it; the log keeps what was done to it."""
    chosen = Selection((name_in(machine),))
    return answers.Count(count=desk.vamt.machines.remove(person, chosen, unchanged(if_match)))


@post("/selections/note", sync_to_thread=True, status_code=200)
def note_machines(desk: At, person: By, data: JSONBody[bodies.NoteMachines]) -> answers.Count:
    """Note something about a selection of machines, in place of what was noted before."""
    byhand.note(data.text, "The note")
    return answers.Count(count=desk.vamt.machines.note(person, data.selection.chosen(), data.text))


@post("/selections/remove", sync_to_thread=True, status_code=200)
def remove_machines(desk: At, person: By, data: JSONBody[bodies.Selection]) -> answers.Count:
    """Remove a selection of machines with all that is known of them."""
    return answers.Count(count=desk.vamt.machines.remove(person, data.chosen()))


@get("/fields", sync_to_thread=True)
def list_fields(desk: At, person: By) -> list[answers.Field]:
    """List what machines can be filtered by."""
    desk.vamt.office.look(person)
    return [answers.Field(field=name, takes=takes, help=text) for name, takes, text in fields()]


# --- groups -------------------------------------------------------------------------------------------------------


@get("/groups", sync_to_thread=True)
def list_groups(desk: At, person: By) -> list[answers.Group]:
    """List the groups."""
    return [
        answers.Group(group=one.name, machines=one.machines, note=one.notes or None, made=when(one.made))
        for one in desk.vamt.groups.list(person)
    ]


@post("/groups", sync_to_thread=True)
def create_group(desk: At, person: By, data: JSONBody[bodies.CreateGroup]) -> answers.Count:
    """Make a group; how many machines it has."""
    byhand.note(data.note, "The note")
    desk.vamt.groups.create(person, data.group, data.note)
    return answers.Count(count=0)


@delete("/groups/{group:str}", sync_to_thread=True, status_code=200)
def delete_group(desk: At, person: By, group: FromPath[str]) -> answers.Count:
    """Remove a group; its machines stay."""
    desk.vamt.groups.delete(person, name_in(group))
    return answers.Count(count=1)


@post("/groups/{group:str}/add", sync_to_thread=True, status_code=200)
def add_to_group(
    desk: At, person: By, group: FromPath[str], data: JSONBody[bodies.Selection]
) -> answers.Count:
    """Put machines into a group; how many were not in it before."""
    return answers.Count(count=desk.vamt.groups.add(person, name_in(group), data.chosen()))


@post("/groups/{group:str}/remove", sync_to_thread=True, status_code=200)
def take_out_of_group(
    desk: At, person: By, group: FromPath[str], data: JSONBody[bodies.Selection]
) -> answers.Count:
    """Take machines out of a group; how many were in it."""
    return answers.Count(count=desk.vamt.groups.take_out(person, name_in(group), data.chosen()))


# --- views --------------------------------------------------------------------------------------------------------


@get("/views", sync_to_thread=True)
def list_views(desk: At, person: By) -> list[answers.View]:
    """List the saved views."""
    return [
        answers.View(view=one.name, where=one.filter, sort=one.sort or None, owner=one.owner)
        for one in desk.vamt.views.list(person)
    ]


@put("/views/{view:str}", sync_to_thread=True)
def save_view(desk: At, person: By, view: FromPath[str], data: JSONBody[bodies.SaveView]) -> answers.View:
    """Save a filter and an order under a name; one's own view of that name is replaced."""
    name = name_in(view)
    desk.vamt.views.save(person, name, data.where, data.sort)
    return answers.View(view=name, where=data.where, sort=data.sort or None, owner=person.name)


@delete("/views/{view:str}", sync_to_thread=True, status_code=200)
def delete_view(desk: At, person: By, view: FromPath[str]) -> answers.Count:
    """Remove one's own view."""
    desk.vamt.views.delete(person, name_in(view))
    return answers.Count(count=1)


ROUTES: list[Any] = [
    list_machines, add_machine, show_machine, show_history, note_machine, trust_machine, remove_machine,
    note_machines, remove_machines, list_fields, list_groups, create_group, delete_group, add_to_group,
    take_out_of_group, list_views, save_view, delete_view,
]  # fmt: skip
