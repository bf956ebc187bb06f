"""``volact vamt install-key``, ``activate``, ``set-host`` and their like, and ``action``: doing things to machines (V5)."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import DONE, REFUSED, UNREACHABLE, Console
from volact.protocol.problems import Refusal, Refused, UsageError
from volact.vamt import actionrecords, actionreporting, actions, desk, proxycommands, reaching
from volact.vamt.actions import Action
from volact.vamt.collectcommands import limits_of, telling
from volact.vamt.desk import ANY, Names, Narrowed
from volact.vamt.logincommands import Passphrase, unlocked
from volact.vamt.performing import Means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volact.vamt.actionrecords import Row
    from volact.vamt.acts import Acted
    from volact.vamt.desk import Desk
    from volact.vamt.sealing import Sealer
    from volact.vamt.selecting import Selection

app = commands.group("action", "What was done to machines, row by row; going on with what is not done.")
Product = Annotated[str, Parameter(help="Only to this product.")]
KeyLabel = Annotated[
    str,
    Parameter(
        name="--key",
        help="The key to take, by its last group or thumbprint; by default those that `key recommend` says.",
        allow_leading_hyphen=True,
    ),
]
Activate = Annotated[bool, Parameter(help="And activate with it at once.")]
Host = Annotated[str, Parameter(help="The KMS host: NAME[:PORT], [IPv6]:PORT or :PORT.")]
Domain = Annotated[str, Parameter(help="The one domain in which KMS hosts are looked for.")]
Queue = Annotated[
    bool,
    Parameter(name="--queue", help="Wait for machines that are off: `volact vamt queue run` tries again."),
]
_Dry = Annotated[bool, Parameter(help="Show what would be done, and why not; touch nothing.")]
AtOnce = Annotated[int | None, WHOLE, Parameter(help="Machines at a time; by default the setting at_once.")]
Limit = Annotated[
    int | None,
    WHOLE,
    Parameter(help="Seconds for one answer of a machine; by default the setting machine_seconds."),
]
_Aid = Annotated[
    str, Parameter(name="ID", help="The action; by default the newest.", allow_leading_hyphen=True)
]
_COLUMNS = ("machine", "product", "outcome", "code", "what", "next")
_NO_REACH = frozenset(
    ("unreachable-name", "unreachable-port", "timed-out", "answer-nonsense", "answer-too-long")
)
_SAID = 100
"""Rows that are shown to people; --json has all."""


@Parameter(name="*")
@dataclass(frozen=True)
class How:
    """How an action is done: the options that all commands share."""

    queue: Queue = False
    dry_run: _Dry = False
    at_once: AtOnce = None
    limit: Limit = None
    passphrase: Passphrase = None
    json: Json = False


PLAINLY = How()
"""No such option is given."""


# --- the actions ----------------------------------------------------------------------------------------------


def install_key(
    *machines: Names,
    narrowed: Narrowed = ANY,
    key: KeyLabel = "",
    activate: Activate = False,
    product: Product = "",
    how: How = PLAINLY,
) -> int:
    """Install product keys on machines: those that are recommended, one after the other, or the one that is named.

    Who is activated already gets no other one, unless it is named. The key goes to the machine on standard input.
    """
    chosen = narrowed.selection(machines)
    action = Action(actions.INSTALL_KEY, product, activate=activate)
    return _do(action, chosen, how, key)


def remove_key(
    *machines: Names,
    narrowed: Narrowed = ANY,
    product: Product = "",
    how: How = PLAINLY,
) -> int:
    """Take product keys off machines; an activation is not given back by that: `volact vamt deactivate`."""
    chosen = narrowed.selection(machines)
    action = Action(actions.REMOVE_KEY, product)
    return _do(action, chosen, how)


def activate_(
    *machines: Names,
    narrowed: Narrowed = ANY,
    online: Annotated[bool, Parameter(help="Each with its key, at the publisher's authority.")] = False,
    kms: Annotated[bool, Parameter(help="By a KMS host; they must have no key of their own.")] = False,
    proxy: Annotated[
        bool, Parameter(help="By the confirmations that are kept here, as `apply --kept` does.")
    ] = False,
    product: Product = "",
    how: How = PLAINLY,
) -> int:
    """Activate machines: online, each with the key that it has; by a KMS host; or by confirmations that are kept here.

    The MAK proxy brings new ones: `volact vamt export`, outside `acquire`, then `import` and `apply`.
    """
    if [online, kms, proxy].count(True) != 1:
        raise UsageError("Say how: --online, --kms or --proxy.")
    chosen = narrowed.selection(machines)
    if proxy:
        if product or how.queue or how.dry_run or how.at_once is not None:
            raise UsageError("--proxy takes a selection, --limit and --passphrase.")
        return proxycommands.apply(
            kept=True,
            machine=tuple(machines),
            where=narrowed.where,
            group=narrowed.group,
            view=narrowed.view,
            all_=narrowed.all_,
            limit=how.limit,
            passphrase=how.passphrase,
            json=how.json,
        )
    action = Action(actions.ONLINE if online else actions.KMS, product)
    return _do(action, chosen, how)


def set_host(
    *machines: Names,
    narrowed: Narrowed = ANY,
    host: Host = "",
    domain: Domain = "",
    clear: Annotated[bool, Parameter(help="Forget host, port and domain: hosts are found by DNS.")] = False,
    product: Product = "",
    how: How = PLAINLY,
) -> int:
    """Set the KMS host that machines ask, or the domain in which they look for one; or clear both."""
    if clear and (host or domain):
        raise UsageError("--clear forgets the host; leave it out, or --host and --domain.")
    chosen = narrowed.selection(machines)
    name = actions.CLEAR_HOST if clear else actions.SET_HOST
    action = Action(name, product, host=host, domain=domain)
    return _do(action, chosen, how)


def deactivate(
    *machines: Names,
    narrowed: Narrowed = ANY,
    product: Product = "",
    how: How = PLAINLY,
) -> int:
    """Give the activations of machines back to the publisher, online; each is Unlicensed then (M6)."""
    chosen = narrowed.selection(machines)
    action = Action(actions.DEACTIVATE, product)
    return _do(action, chosen, how)


def refresh_status(
    *machines: Names,
    narrowed: Narrowed = ANY,
    how: How = PLAINLY,
) -> int:
    """Ask machines how they are, row by row, and with --queue wait for those that are off; `collect` asks many faster."""
    chosen = narrowed.selection(machines)
    return _do(Action(actions.REFRESH), chosen, how)


def _do(action: Action, chosen: Selection, how: How, key: str = "") -> int:
    """Do an action, or show what it would do, and say its exit code."""
    console = Console(json=how.json)
    with desk.desk() as at:
        if how.dry_run:
            limits_of(at, how.at_once, how.limit, accept_new=False)
            return _say(console, at.vamt.acts.plan(at.person, action, chosen, key=key))
        means = means_of(at, how.at_once, how.limit, how.passphrase)
        aid = at.vamt.acts.begin(at.person, action, chosen, key=key, queue=how.queue)
        return _run(console, at, aid, means)


def means_of(at: Desk, at_once: int | None, limit: int | None, passphrase: str | None) -> Means:
    """What it takes to reach machines, as set and as commanded; the seal is opened once, and only if it is needed.

    Raises:
        UsageError: naming the bounds.
    """
    limits = limits_of(at, at_once, limit, accept_new=False)

    @cache
    def unlock() -> Sealer:
        return unlocked(at, passphrase)

    return Means(reaching.by_group(at.opened.store, unlock, os.environ), limits, unlock)


def _run(console: Console, at: Desk, aid: str, means: Means, *, resume: bool = False) -> int:
    with telling(console) as tell:
        try:
            acted = asyncio.run(at.vamt.acts.run(at.person, aid, means, tell, resume=resume))
        except KeyboardInterrupt:
            console.remark(f"What is done stays done. To go on: volact vamt action resume {aid}")
            raise
    return _say(console, acted)


# --- what was done --------------------------------------------------------------------------------------------


@app.command(name="list")
def list_(*, json: Json = False) -> None:
    """List the newest actions, and how many rows of each are done, failed or wait."""
    with desk.desk() as at:
        found = at.vamt.acts.list(at.person)
    commands.show(
        Console(json=json),
        [
            {
                "id": task.aid,
                "action": task.what,
                "by": task.who,
                "begun": commands.when(task.at),
                "state": task.state,
                "rows": dict(counts),
            }
            for task, counts in found
        ],
        [
            (
                task.aid,
                task.what,
                task.who,
                commands.when(task.at),
                ", ".join(f"{count} {state}" for state, count in sorted(counts.items())),
            )
            for task, counts in found
        ],
        ("id", "action", "by", "begun", "rows"),
        "Nothing was done yet. See `volact vamt install-key --help`, `activate`, `set-host`.",
    )


@app.command
def show(aid: _Aid = "", /, *, json: Json = False) -> int:
    """Show an action row by row: what came of it, why not, and what to do next."""
    console = Console(json=json)
    with desk.desk() as at:
        return _say(console, at.vamt.acts.show(at.person, aid or _newest(at)))


@app.command
def resume(
    aid: _Aid = "",
    /,
    *,
    at_once: AtOnce = None,
    limit: Limit = None,
    passphrase: Passphrase = None,
    json: Json = False,
) -> int:
    """Go on with an action: with the rows that were not tried, were under way, failed or wait. What is done stays done."""
    console = Console(json=json)
    with desk.desk() as at:
        aid = aid or at.vamt.acts.newest_open(at.person)
        return _run(console, at, aid, means_of(at, at_once, limit, passphrase), resume=True)


def _newest(at: Desk) -> str:
    found = at.vamt.acts.list(at.person, 1)
    if not found:
        raise Refused(Refusal("action-unknown", "Nothing was done yet."))
    return found[0][0].aid


# --- saying it ------------------------------------------------------------------------------------------------


def _say(console: Console, acted: Acted) -> int:
    told = [actionreporting.row(one, acted.labels) for one in acted.rows]
    shown = [
        (
            one["machine"],
            one["product"] or "",
            one["outcome"],
            one["code"] or "",
            one["detail"] or "",
            one["next"] or (f"tried again at {one['due']}" if one["due"] else ""),
        )
        for one in told
    ]
    # What failed first: of many rows these are the ones that somebody has to read.
    shown.sort(key=lambda one: one[2] in (actionrecords.DONE, actionrecords.WOULD))
    said = ", ".join(f"{count} {state}" for state, count in actionreporting.counts(acted.rows).items())
    if console.json:
        console.answer(actionreporting.acted(acted), "")
    else:
        commands.show(console, None, shown[:_SAID], _COLUMNS, "")
        more = f"; {len(shown) - _SAID} more rows: --json" if len(shown) > _SAID else ""
        console.answer(None, f"{said}{more}{_next(acted)}")
    return exit_code(acted.rows)


def _next(acted: Acted) -> str:
    states = {one.state for one in acted.rows}
    if not acted.task.aid:
        return "\nNothing was done: without --dry-run it would be."
    if states & {actionrecords.FAILED, actionrecords.WAITING, actionrecords.RUNNING}:
        return f"\nTo go on with what is not done: volact vamt action resume {acted.task.aid}"
    return "\nNext: volact vamt queue run" if actionrecords.QUEUED in states else ""


def exit_code(rows: Sequence[Row]) -> int:
    """What a command ends with: 0 if no row failed, 3 if all that failed were not reached, else 1."""
    codes = {one.code for one in rows if one.state == actionrecords.FAILED}
    if not codes:
        return DONE
    return UNREACHABLE if codes <= _NO_REACH else REFUSED
