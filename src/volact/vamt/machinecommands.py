"""``volact vamt machine``: adding by hand, listing, showing, noting, removing (V1, V3)."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import Console, secret_argument, table
from volact.protocol.problems import UsageError
from volact.vamt import byhand, desk, reporting, searching
from volact.vamt.desk import ANY, Group, Names, Narrowed, ViewName, Where

app = commands.group("machine", "Machines: what was found, and what is known of each.")


@app.command
def add(
    name: Annotated[
        str, Parameter(name="NAME", help="Its name, full name or address.", allow_leading_hyphen=True)
    ],
    /,
    *,
    address: Annotated[tuple[str, ...], Parameter(help="An address of it; may be given several times.")] = (),
    port: Annotated[int | None, WHOLE, Parameter(help="The port of its remote access.")] = None,
    transport: Annotated[str, Parameter(help="How it is reached: ssh, winrm or local.")] = "",
    group: Annotated[str, Parameter(help="A group to put it into; made if there is none.")] = "",
    note: Annotated[str, Parameter(help="Something to remember about it.")] = "",
    json: Json = False,
) -> None:
    """Add a machine by hand, or tell more of one that is known."""
    sighting = byhand.sighting(name, address, port, transport)
    byhand.note(note)
    with desk.desk() as at:
        mid, is_new = at.vamt.machines.add(at.person, sighting._replace(group=group), note)
    Console(json=json).answer({"id": mid, "new": is_new}, f"{mid}: {'added' if is_new else 'known already'}")


@app.command(name="list")
def list_(
    *,
    where: Where = "",
    group: Group = "",
    view: ViewName = "",
    sort: Annotated[
        str,
        Parameter(
            help=f"Order: {', '.join(searching.SORTS)}; with - before it descending.",
            allow_leading_hyphen=True,
        ),
    ] = "",
    limit: Annotated[int, WHOLE, Parameter(help="At most so many rows; by default 100.")] = 100,
    offset: Annotated[int, WHOLE, Parameter(help="Leave out so many rows before.")] = 0,
    json: Json = False,
) -> None:
    """List machines, one row for each product on them."""
    order = searching.order_of(sort)
    if sort and order is None:
        raise UsageError(f"There is no order {sort[:40]!r}.", f"Give one of {', '.join(searching.SORTS)}.")
    desk.check_page(limit, offset)
    with desk.desk() as at:
        listed = at.vamt.machines.list(
            at.person, where, order, limit=limit, offset=offset, group=group, view=view
        )
    told = reporting.rows(listed, offset)
    is_narrowed = bool(where or group or view)
    console = Console(json=json)
    commands.show(
        console,
        told,
        [reporting.table_row(row) for row in told["rows"]],
        reporting.ROW_COLUMNS,
        "No row is like that."
        if is_narrowed or told["total"]
        else "No machine is known yet. Find some: volact vamt discover --help, or add one: volact vamt machine add NAME",
    )
    if told["total"] > len(told["rows"]) and told["rows"]:
        console.remark(f"rows {offset + 1} to {offset + len(told['rows'])} of {told['total']}")


@app.command
def show(
    name: Annotated[
        str, Parameter(name="NAME", help="A name, full name, address or id.", allow_leading_hyphen=True)
    ],
    /,
    *,
    json: Json = False,
) -> None:
    """Show all that is known of one machine."""
    with desk.desk() as at:
        told = reporting.machine(at.vamt.machines.show(at.person, name))
    lines = [
        [member, ", ".join(map(str, value)) if isinstance(value, list) else str(value)]
        for member, value in told.items()
        if value not in (None, "", []) and member != "products"
    ]
    products = [
        (one["product"], one["state_name"], one["channel"] or "", one["expires"] or "", one["proof"])
        for one in told["products"]
    ]
    prose = table(lines, ("what", "is"))
    if products:
        prose += "\n\n" + table(products, ("product", "state", "key", "expires", "proof"))
    Console(json=json).answer(told, prose)


@app.command
def trust(
    name: Annotated[
        str, Parameter(name="NAME", help="A name, full name, address or id.", allow_leading_hyphen=True)
    ],
    /,
    *,
    host_key: Annotated[
        tuple[str, ...],
        Parameter(help="Its SSH host key: 'ssh-ed25519 AAAA...' or @FILE; may be given several times."),
    ] = (),
    fingerprint: Annotated[
        tuple[str, ...],
        Parameter(
            help="Its key's fingerprint, SHA256:...; the key is pinned once it is shown. Also several."
        ),
    ] = (),
    json: Json = False,
) -> None:
    """Pin a machine's SSH host keys, in place of those that sources said: compare them with the machine's own first.

    `collect --json` says the key and fingerprint that a machine shows; the machine's console says its own.
    """
    if not host_key and not fingerprint:
        raise UsageError("Nothing is to be pinned.", "Give --host-key or --fingerprint.")
    keys = tuple(byhand.host_key(secret_argument(one) if one.startswith("@") else one) for one in host_key)
    keys += tuple(map(byhand.fingerprint, fingerprint))
    with desk.desk() as at:
        mid = at.vamt.machines.trust(at.person, name, keys)
    Console(json=json).answer(
        {"id": mid, "host_keys": list(keys)}, f"{name}: {len(keys)} host keys are pinned"
    )


@app.command
def note(
    *machines: Names,
    text: Annotated[str, Parameter(help="What to remember; empty: nothing any more.")],
    narrowed: Narrowed = ANY,
    json: Json = False,
) -> None:
    """Note something about machines, in place of what was noted before."""
    byhand.note(text, "--text")
    chosen = narrowed.selection(machines)
    with desk.desk() as at:
        count = at.vamt.machines.note(at.person, chosen, text)
    Console(json=json).answer({"machines": count}, f"noted at {count} machines")


@app.command
def remove(
    *machines: Names,
    narrowed: Narrowed = ANY,
    json: Json = False,
) -> None:
    """Remove machines with all that is known of them; the log keeps what was done to them."""
    chosen = narrowed.selection(machines)
    with desk.desk() as at:
        count = at.vamt.machines.remove(at.person, chosen)
    Console(json=json).answer({"removed": count}, f"removed {count} machines")
