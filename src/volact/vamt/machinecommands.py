"""``volact vamt machine``: adding by hand, listing, showing, noting, removing (V1, V3)."""

from __future__ import annotations

import re
from typing import Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import Console, secret_argument, table
from volact.protocol.problems import UsageError
from volact.vamt import desk, reporting, searching
from volact.vamt.desk import All, Group, Names, ViewName, Where  # noqa: TC001 - cyclopts reads the annotations
from volact.vamt.discovering import names
from volact.vamt.inventory import HAND, Sighting

app = commands.group("machine", "Machines: what was found, and what is known of each.")
_TRANSPORTS = ("ssh", "winrm", "local")
_MOST_PORT = 65535
_MOST_NOTE = 1000


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
    sighting = _by_hand(name, address, port, transport)
    if not note.isprintable() or len(note) > _MOST_NOTE:
        raise UsageError(f"--note has at most {_MOST_NOTE} printable characters.")
    with desk.desk() as at:
        mid, is_new = at.vamt.machines.add(at.person, sighting._replace(group=group), note)
    Console(json=json).answer({"id": mid, "new": is_new}, f"{mid}: {'added' if is_new else 'known already'}")


def _by_hand(name: str, addresses: tuple[str, ...], port: int | None, transport: str) -> Sighting:
    found = [names.address(one) for one in addresses]
    if None in found:
        raise UsageError(f"{names.shown(addresses[found.index(None)])} is no address of a machine.")
    by_name, by_address = names.host(name), names.address(name)
    if by_name is None and by_address is None:
        raise UsageError(
            f"{names.shown(name)} is no name or address of a machine.",
            "Give web1, web1.example.com or 192.0.2.1.",
        )
    if port is not None and not 0 < port <= _MOST_PORT:
        raise UsageError(f"--port is 1 to {_MOST_PORT}.")
    if transport and transport not in _TRANSPORTS:
        raise UsageError(f"--transport is one of {', '.join(_TRANSPORTS)}.")
    known = tuple(one for one in (by_address, *found) if one)
    host = by_name or names.Host("")
    return Sighting(HAND, host.name, host.domain, known, port, transport)


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
    ],
    json: Json = False,
) -> None:
    """Pin a machine's SSH host keys, in place of those that sources said: compare them with the machine's own first."""
    keys = tuple(_host_key(secret_argument(one) if one.startswith("@") else one) for one in host_key)
    with desk.desk() as at:
        mid = at.vamt.machines.trust(at.person, name, keys)
    Console(json=json).answer(
        {"id": mid, "host_keys": list(keys)}, f"{name}: {len(keys)} host keys are pinned"
    )


def _host_key(text: str) -> str:
    """A host key as known_hosts and ``ssh-keyscan`` write it, without a comment."""
    kind, _, rest = text.strip().partition(" ")
    data = rest.split(" ", 1)[0]
    if not re.fullmatch(r"[a-z0-9@.-]{1,60}", kind) or not re.fullmatch(
        r"[A-Za-z0-9+/]{40,16000}={0,2}", data
    ):
        raise UsageError(
            f"{names.shown(text)} is no SSH host key.", "Give it as /etc/ssh/ssh_host_ed25519_key.pub has it."
        )
    return f"{kind} {data}"


@app.command
def note(
    *machines: Names,
    text: Annotated[str, Parameter(help="What to remember; empty: nothing any more.")],
    where: Where = "",
    group: Group = "",
    view: ViewName = "",
    all_: All = False,
    json: Json = False,
) -> None:
    """Note something about machines, in place of what was noted before."""
    if not text.isprintable() or len(text) > _MOST_NOTE:
        raise UsageError(f"--text has at most {_MOST_NOTE} printable characters.")
    chosen = desk.selection(machines, where, group, view, every=all_)
    with desk.desk() as at:
        count = at.vamt.machines.note(at.person, chosen, text)
    Console(json=json).answer({"machines": count}, f"noted at {count} machines")


@app.command
def remove(
    *machines: Names,
    where: Where = "",
    group: Group = "",
    view: ViewName = "",
    all_: All = False,
    json: Json = False,
) -> None:
    """Remove machines with all that is known of them; the log keeps what was done to them."""
    chosen = desk.selection(machines, where, group, view, every=all_)
    with desk.desk() as at:
        count = at.vamt.machines.remove(at.person, chosen)
    Console(json=json).answer({"removed": count}, f"removed {count} machines")
