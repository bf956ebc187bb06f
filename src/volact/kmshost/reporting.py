"""What the host tells its administrator: `status`, `clients`, `events` (K9, K13, rule E).

The JSON of each is append-only: members are added, never renamed or removed.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import structlog

from volact import db
from volact.clock import LAST
from volact.commands import when
from volact.config import nearest
from volact.console import since_argument, table, without_keys
from volact.kmshost import counting, dnscommands, forecast, ledger, listening, publishing, settings, surveys
from volact.kmshost import store as sql
from volact.kmshost.hostkeys import HostKeys
from volact.protocol import ids, policy
from volact.protocol.documents import STATE_NAMES
from volact.protocol.problems import PROBLEMS, Refusal, UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from volact.kmshost.keyring import Keyring
    from volact.kmshost.ledger import Record
    from volact.kmshost.setup import Opened
    from volact.kmshost.store import Store

MOST_ROWS = 100_000
HANDLED, NOT_STARTED = sql.HANDLED, 12291
WARN_FROM = (50, 75, 90)
"""Percent of a delegation's time from which `status` says more and more loudly that it has to be extended (K9)."""
CLIENT_COLUMNS = (
    "row",
    "cmid",
    "product",
    "name",
    "since",
    "last",
    "until",
    "state_name",
    "virtual",
    "lease_until",
    "refused",
)
EVENT_COLUMNS = ("time", "event", "result", "current", "required", "product", "cmid", "host", "state_name")
RESULTS = {counting.GRANTED: None, forecast.WILL_FALL: None, publishing.WITHDRAWN: None, **PROBLEMS}
"""What an event's result can be."""

_log = structlog.get_logger()


def used_percent(iat: int, exp: int, now: int) -> int:
    """How much of a delegation's time is over, 0 to 100 percent, rounded down."""
    return max(0, min(100, (now - iat) * 100 // (exp - iat))) if exp > iat else 100


def stage(iat: int, exp: int, now: int) -> int:
    """How many of the warnings about a delegation's end are due: 0 to 3, and 4 when it is over."""
    return 4 if now > exp else sum(used_percent(iat, exp, now) >= one for one in WARN_FROM)


def delegation_warning(iat: int, exp: int, now: int) -> str:
    """What the administrator should do about the delegation's end, long before it (K9); empty for nothing."""
    used = used_percent(iat, exp, now)
    if now > exp:
        return "The delegation is over: no machine gets a lease. Extend it now: volact kmshost extend"
    if used < WARN_FROM[0]:
        return ""
    days = (exp - now) // policy.DAY
    urgency = {50: "extend it in good time", 75: "extend it soon", 90: "extend it now"}
    passed = max(one for one in WARN_FROM if used >= one)
    return f"The delegation ends in {days} days ({used} % used): {urgency[passed]}: volact kmshost extend"


def not_started(
    store: Store | None, now: int, refusal: Refusal, where: str = "", what: str = "could not start"
) -> None:
    """Event 12291, to the log and, where there is a store that takes it, to the store.

    `where` is the address and port that was to be listened on, `what` the text: a service may also not move.
    """
    where = without_keys(where)  # both may repeat what was typed (M8)
    detail = without_keys(refusal.detail)
    _log.error(f"host {what}", event_id=NOT_STARTED, result=refusal.code, detail=detail, host=where)
    if store is not None:
        with contextlib.suppress(VolactError), store.writing() as tx:
            sql.add_event(tx, sql.Event(now, NOT_STARTED, refusal.code, host=where or None))


# --- events -----------------------------------------------------------------------------------------------------


EVENTS = (12288, 12289, 12290, 12291, 12293, 12294, 12295)
"""The numbers that events have; 12288 and 12289 are a client's."""


def events(
    opened: Opened,
    since: str | None,
    limit: int,
    *,
    event: int | None = None,
    result: str | None = None,
    cmid: str | None = None,
    product: str | None = None,
) -> list[dict[str, Any]]:
    """Events as JSON-ready members, the oldest first; with a limit the newest so many of those that are wanted.

    Raises:
        UsageError: if no event can have such a number, result or CMID.
    """
    if event is not None and event not in EVENTS:
        raise UsageError(f"There is no event {event}.", f"There are {', '.join(map(str, EVENTS))}.")
    if result is not None and result not in RESULTS:
        raise UsageError(f"There is no result {result[:40]!r}{nearest(result, RESULTS)}.")
    if cmid is not None and not ids.is_thumbprint(cmid):
        raise UsageError(f"{cmid[:60]!r} is no CMID: it has 43 characters.", "See `volact kmshost clients`.")
    start = since_argument(since, opened.clock.now()) if since else 0
    with opened.store.reading() as tx:
        found = sql.events(tx, start, limit or None, event=event, result=result, cmid=cmid, product=product)
    return [_event_json(one) for one in found]


def _event_json(one: sql.Event) -> dict[str, Any]:
    members = one._asdict()
    client_time = members["client_time"]
    return {
        **members,
        "time": when(one.time),
        "client_time": None if client_time is None else _when(client_time),
        "state_name": None if one.state is None else state_name(one.state),
    }


def state_name(state: int) -> str:
    """A state in words; of a number that is none the number."""
    return STATE_NAMES[state] if 0 <= state < len(STATE_NAMES) else str(state)


def _when(seconds: int | None) -> str | None:
    """A time that a machine said, which may be any number."""
    return None if seconds is None else when(min(seconds, LAST))


# --- clients ----------------------------------------------------------------------------------------------------


def clients(opened: Opened, after: int, limit: int) -> list[dict[str, Any]]:
    """The machines' records behind the row `after`, those of the products in the order in which they called first."""
    now = opened.clock.now()
    with opened.store.reading() as tx:
        found = ledger.pages(tx, after, limit, live_at=now)
    return [_client_json(one) for one in found]


def _client_json(one: Record) -> dict[str, Any]:
    granted = one.outcome == counting.GRANTED
    return {
        "row": one.id,
        "cmid": one.cmid,
        "product": one.prd,
        "group": one.grp,
        "server": one.server,
        "name": one.name,
        "address": one.address,
        "virtual": one.virtual,
        "since": when(one.first),
        "last": when(one.last),
        "until": when(one.expires),
        "state": one.state,
        "state_name": state_name(one.state),
        "lease_until": _when(one.lease_end),
        "renewals": one.renewals,
        "refused": None if granted else one.outcome,
        "reason": None
        if granted
        else PROBLEMS[one.outcome].sentence
        if one.outcome in PROBLEMS
        else one.outcome,
    }


# --- status -----------------------------------------------------------------------------------------------------


def status(opened: Opened) -> dict[str, Any]:
    """Everything that an administrator looks for first, as JSON-ready members."""
    now, keyring, host_keys = opened.clock.now(), opened.keyring(), HostKeys(opened.folder)
    waiting = host_keys.waiting()
    used = host_keys.activated(keyring.held[-1]["act"]) if keyring and keyring.held else None
    shown = used or waiting
    with opened.store.reading() as tx:
        counts, tally, rows = sql.counts(tx, now), sql.tally(tx), sql.products(tx)
        by_source = surveys.by_source(tx, now)
    newest = keyring.newest if keyring else None
    in_force = keyring.in_force(now) if keyring else Refusal("host-not-activated")
    served = set(newest["prd"]) if newest else set()
    return {
        "publisher": opened.publisher.pub,
        "host": opened.signer.kid,
        "lab": opened.publisher.lab,
        "activated": newest is not None,
        "reason": in_force.code if isinstance(in_force, Refusal) else None,
        "since": when(newest.iat) if newest else None,
        "until": when(newest["exp"]) if newest else None,
        "used_percent": used_percent(newest.iat, newest["exp"], now) if newest else None,
        "warning": (delegation_warning(newest.iat, newest["exp"], now) if newest else "") or None,
        "partial_key": shown.label if shown else None,
        "products": [_product_json(one, keyring, counts, served) for one in rows],
        "groups": {
            name: {"machines": machines, "servers": servers} for name, (machines, servers) in counts.items()
        },
        "sources": by_source,
        "requests": _requests(tally),
        "settings": _settings(opened),
        "settings_problem": settings.problem_now(opened) or None,
        "listening": _listening(opened),
        "storage": db.describe(opened.store.engine),
        "waiting_key": waiting.label if waiting else None,
        "dns": dnscommands.described(opened),
    }


def _product_json(
    one: sql.Product, keyring: Keyring | None, counts: Mapping[str, tuple[int, int]], served: set[str]
) -> dict[str, Any]:
    machines = servers = 0
    count, required, counted, enough = 0, None, None, False
    known = keyring.products.get(one.prd) if keyring else None
    if known:
        machines, servers = counts.get(known.group, (0, 0))
        thresholds = known.policy.thresholds
        missing = counting.shortfall(thresholds, machines, servers)
        enough = missing is None
        if missing:
            count, required, counted = missing
        else:
            reached = [
                (servers if rule.counted == counting.SERVERS else machines, rule.minimum, rule.counted)
                for rule in thresholds
            ]
            count, required, counted = max(reached, key=lambda it: it[0] - it[1])
    return {
        "product": one.prd,
        "name": one.name,
        "edition": one.edition,
        "version": one.ver,
        "served": one.prd in served,
        "count": count,
        "required": required,
        "counted": counted,
        "enough": enough,
        "machines": machines,
        "servers": servers,
    }


def _requests(tally: Mapping[tuple[str, int], int]) -> dict[str, Any]:
    outcomes: dict[str, int] = {}
    states = dict.fromkeys(STATE_NAMES[:-1], 0)
    for (outcome, state), many in sorted(tally.items()):
        outcomes[outcome] = outcomes.get(outcome, 0) + many
        states[state_name(state)] = states.get(state_name(state), 0) + many
    total = sum(outcomes.values())
    return {
        "total": total,
        "failed": total - outcomes.get(counting.GRANTED, 0),
        "by_outcome": outcomes,
        "by_state": states,
    }


def _listening(opened: Opened) -> dict[str, Any] | None:
    """Where the service listens now, whatever is set; None if none runs."""
    found = listening.read(opened.folder)
    return {"address": found.address, "port": found.port, "pid": found.pid} if found else None


def _settings(opened: Opened) -> dict[str, dict[str, Any]]:
    """Every setting's value and where it comes from; a database's URL may hold a password and is not shown."""
    found = opened.settings._asdict()
    shown = {**found, "database": "set" if found["database"] else ""}
    return {name: {"value": value, "from": settings.where(opened, name)} for name, value in shown.items()}


def prose(found: Mapping[str, Any]) -> str:
    """A status for people."""
    lines = [f"{'host':<12}{found['host']}", f"{'publisher':<12}{found['publisher']}"]
    if found["lab"]:
        lines[-1] += "  (a laboratory)"
    if found["activated"]:
        lines.append(f"{'activated':<12}until {found['until']} ({found['used_percent']} % used)")
    else:
        lines.append(f"{'activated':<12}no: volact kmshost install-key KEY, then volact kmshost activate")
    if found["warning"] or (found["activated"] and found["reason"]):
        lines.append(f"{'warning':<12}{found['warning'] or PROBLEMS[found['reason']].sentence}")
    if found["settings_problem"]:
        lines.append(f"{'warning':<12}{broken_settings(found)}")
    lines.append(f"{'key':<12}{'...-' + found['partial_key'] if found['partial_key'] else 'none'}")
    if found["waiting_key"] and found["activated"]:
        lines.append(f"{'':<12}...-{found['waiting_key']} waits for its activation: volact kmshost activate")
    port, listen, now = found["settings"]["port"], found["settings"]["listen"], found["listening"]
    chosen = f"{listen['value']} port {port['value']} ({port['from']})"
    runs = (
        f"{now['address']} port {now['port']} (pid {now['pid']})" if now else f"not running (set: {chosen})"
    )
    lines += [
        f"{'listening':<12}{runs}",
        f"{'storage':<12}{found['storage']}",
        f"{'dns':<12}{dnscommands.brief(found['dns'])}",
    ]
    sources = found["sources"]
    lines.append(
        f"{'sources':<12}{sources['private']} machines at private, {sources['global']} at global addresses"
    )
    requests = found["requests"]
    lines.append(f"{'requests':<12}{requests['total']}, {requests['failed']} failed")
    lines += [f"{'':<12}{many} {outcome}" for outcome, many in requests["by_outcome"].items()]
    head = ("product", "version", "count", "required", "machines", "servers", "served")
    rows = [[_cell(one[name]) for name in head] for one in found["products"]]
    return "\n".join(lines) + "\n\n" + (table(rows, head) if rows else "No product is known here yet.")


def broken_settings(found: Mapping[str, Any]) -> str:
    """What follows from settings that are wrong, in words."""
    until = (
        "the service goes on with the former settings, and does not start again"
        if found["listening"]
        else "the service does not start"
    )
    return f"a setting is wrong: {found['settings_problem'].rstrip('.')}; {until} until it is mended"


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
