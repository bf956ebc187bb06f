"""``volact vamt queue`` and ``volact vamt schedule``: what waits for machines that are off, and what is repeated (V2, V5)."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import Json  # noqa: TC001 - cyclopts reads the annotations
from volact.console import DONE, REFUSED, Console
from volact.protocol.problems import UsageError
from volact.vamt import actionreporting, actions, desk
from volact.vamt.acting import OK
from volact.vamt.actioncommands import (
    Activate,
    AtOnce,
    Domain,
    Host,
    KeyLabel,
    Limit,
    Product,
    Queue,
    exit_code,
    means_of,
)
from volact.vamt.actions import Action
from volact.vamt.collectcommands import telling
from volact.vamt.desk import ANY, Names, Narrowed
from volact.vamt.logincommands import Passphrase  # noqa: TC001 - as above
from volact.vamt.schedules import COLLECT, Wanted

app = commands.group("queue", "What waits for machines that are off.")
schedules = commands.group("schedule", "What is done again and again.")
_Waiting = Annotated[
    str, Parameter(name="ID", help="Ids of actions, or ids or names of machines.", allow_leading_hyphen=True)
]


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List what waits, and when it is tried again."""
    with desk.desk() as at:
        found = at.vamt.queue.list(at.person)
        labels = {one.thumbprint: one.label for one in at.vamt.keys.list(at.person)}
    commands.show(
        Console(json=json),
        [actionreporting.waiting(one, labels) for one in found],
        [
            (
                one.row.machine,
                one.row.prd,
                one.task.what,
                one.row.code,
                one.row.tries,
                commands.when(one.row.due or 0),
                one.task.aid,
            )
            for one in found
        ],
        ("machine", "product", "action", "why", "tries", "due", "id"),
        "Nothing waits.",
    )


@app.command
def run(
    *,
    every: Annotated[bool, Parameter(name="--all", help="Also what is not due yet.")] = False,
    at_once: AtOnce = None,
    limit: Limit = None,
    passphrase: Passphrase = None,
    json: Json = False,
) -> int:
    """Try what is due once more; each machine is looked at first, so that nothing is done twice."""
    console = Console(json=json)
    with desk.desk() as at:
        at.vamt.office.look(at.person, "schedule")
        means = means_of(at, at_once, limit, passphrase)
        now = at.opened.clock.now()
        if every:
            now = max([now, *(one.row.due or 0 for one in at.vamt.queue.list(at.person))])
        labels = {one.thumbprint: one.label for one in at.vamt.keys.list(at.person)}
        with telling(console) as tell:
            done = asyncio.run(at.vamt.queue.run_due(now, means, tell))
    commands.show(
        console,
        [actionreporting.row(one, labels) for one in done],
        [(one.machine, one.prd, one.state, one.code, actions.sentence(one.code, one.detail)) for one in done],
        ("machine", "product", "outcome", "code", "what"),
        "Nothing is due.",
    )
    return exit_code(done)


@app.command
def cancel(
    *ids: _Waiting,
    every: Annotated[bool, Parameter(name="--all", help="All that waits.")] = False,
    json: Json = False,
) -> None:
    """Let actions wait no longer; what is done stays done."""
    if every == bool(ids):
        raise UsageError("Name actions or machines, or say --all.")
    with desk.desk() as at:
        count = at.vamt.queue.cancel(at.person, ids, every=every)
    Console(json=json).answer({"cancelled": count}, f"{count} wait no longer")


# --- schedules ------------------------------------------------------------------------------------------------


@schedules.command
def add(
    name: Annotated[str, Parameter(name="NAME", help="What it is called.")],
    what: Annotated[
        str, Parameter(name="WHAT", help=f"{COLLECT}, or an action: {', '.join(actions.LEAST)}.")
    ],
    /,
    *machines: Names,
    every: Annotated[str, Parameter(help="How often: 15m, 2h, 1d.")],
    at: Annotated[
        str, Parameter(help="At what time of day first, UTC: 02:00; by default after one interval.")
    ] = "",
    narrowed: Narrowed = ANY,
    key: KeyLabel = "",
    activate: Activate = False,
    host: Host = "",
    domain: Domain = "",
    product: Product = "",
    queue: Queue = False,
    json: Json = False,
) -> None:
    """Do something again and again: ask machines, or act on them. The selection is looked up anew each time."""
    interval, moment = actions.every(every), actions.time_of_day(at) if at else None
    if interval is None:
        raise UsageError("--every is 15m to 365d: 15m, 2h, 1d.")
    if at and moment is None:
        raise UsageError("--at is a time of day, UTC: 02:00.")
    action = Action(what, product, activate=activate, host=host, domain=domain)
    if what == COLLECT and action != Action(COLLECT):
        raise UsageError("Collecting takes a selection and nothing else.")
    chosen = narrowed.selection(machines)
    wanted = Wanted(name, None if what == COLLECT else action, chosen, interval, moment, key, queue)
    with desk.desk() as here:
        made = here.vamt.schedules.add(here.person, wanted)
    Console(json=json).answer(
        actionreporting.schedule(made),
        f"{made.name}: first at {commands.when(made.next)}\n"
        "It is done by `volact vamt serve` while that runs, or by `volact vamt schedule run`.",
    )


@schedules.command(name="list")
def list_schedules(*, json: Json = False) -> None:
    """List schedules: when each is due, and what it came to last."""
    with desk.desk() as at:
        found = at.vamt.schedules.list(at.person)
    commands.show(
        Console(json=json),
        [actionreporting.schedule(one) for one in found],
        [
            (
                one.name,
                one.what,
                f"{one.every} s",
                commands.when(one.next),
                "never" if one.last is None else commands.when(one.last),
                one.result,
                one.who,
            )
            for one in found
        ],
        ("name", "what", "every", "next", "last", "came to", "by"),
        "There is no schedule. Make one: volact vamt schedule add NAME collect --all --every 1d --at 02:00",
    )


@schedules.command
def remove(name: Annotated[str, Parameter(name="NAME")], /, *, json: Json = False) -> None:
    """Remove a schedule; what it did stays done."""
    with desk.desk() as at:
        at.vamt.schedules.remove(at.person, name)
    Console(json=json).answer({"removed": name}, f"removed {name}")


@schedules.command(name="run")
def run_schedules(
    *, at_once: AtOnce = None, limit: Limit = None, passphrase: Passphrase = None, json: Json = False
) -> int:
    """Do the schedules that are due, each once however often it was missed."""
    console = Console(json=json)
    with desk.desk() as at:
        at.vamt.office.look(at.person, "schedule")
        means = means_of(at, at_once, limit, passphrase)
        with telling(console) as tell:
            done = asyncio.run(at.vamt.schedules.run_due(at.opened.clock.now(), means, tell))
    commands.show(
        console,
        [one._asdict() for one in done],
        list(done),
        ("name", "came to", "detail"),
        "Nothing is due.",
    )
    return DONE if all(one.result == OK for one in done) else REFUSED
