"""How machines, groups, people and the log are told: as JSON, the same for commands and API, and as rows of a table."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from volact.commands import when
from volact.console import table
from volact.protocol.documents import STATE_NAMES
from volact.vamt.access import token_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volact.vamt.collection import Failed
    from volact.vamt.machines import Listed, Shown
    from volact.vamt.persons import Entry, Token
    from volact.vamt.records import Installed
    from volact.vamt.searching import Found

ROW_COLUMNS = ("machine", "address", "groups", "product", "state", "key", "expires", "last answer")


def _when(seconds: int | None) -> str | None:
    return None if seconds is None else when(seconds)


def state_name(state: int) -> str:
    """What a state is called (rule E)."""
    return STATE_NAMES[state] if 0 <= state < len(STATE_NAMES) else str(state)


def row(one: Found, groups: list[str]) -> dict[str, Any]:
    """A machine and a product on it, as JSON; the product's members are null for a machine without one."""
    machine, product = one.machine, one.product or {}
    return {
        "id": machine["mid"],
        "name": machine["name"],
        "domain": machine["domain"],
        "address": machine["address"],
        "groups": groups,
        "platform": machine["platform"],
        "system": machine["system"],
        "virtual": machine["virtual"],
        "hypervisor": machine["hypervisor"],
        "first_seen": when(machine["first_seen"]),
        "last_seen": when(machine["last_seen"]),
        "collected": _when(machine["collected"]),
        "outcome": machine["code"] or None,
        "detail": machine["detail"] or None,
        "publisher": product.get("pub"),
        "product": product.get("prd"),
        "state": product.get("state"),
        "state_name": state_name(product["state"]) if product else None,
        "channel": product.get("channel"),
        "partial_key": product.get("partial_key"),
        "granted": _when(product.get("granted")),
        "expires": _when(product.get("expires")),
        "host": product.get("host"),
        "reason": product.get("reason"),
        "proof": product.get("proof"),
    }


def rows(listed: Listed, offset: int) -> dict[str, Any]:
    """A page of machines and products, as JSON."""
    return {
        "total": listed.page.total,
        "offset": offset,
        "rows": [row(one, listed.groups[one.number]) for one in listed.page.rows],
    }


def table_row(told: dict[str, Any]) -> list[str]:
    """A row of `rows` for people, under `ROW_COLUMNS`; a state says whether it is proved or only reported (V2)."""
    full_name = ".".join(filter(None, (told["name"], told["domain"]))) or told["id"]
    key = "-".join(filter(None, (told["channel"], told["partial_key"])))
    return [
        full_name,
        told["address"],
        ", ".join(told["groups"]),
        told["product"] or "",
        f"{told['state_name']} ({told['proof']})" if told["state_name"] else "",
        key,
        told["expires"] or "",
        told["collected"] or told["outcome"] or "",
    ]


def installed(one: Installed) -> dict[str, Any]:
    """A product on a machine, as JSON."""
    product = one.product
    return {
        "publisher": product.publisher,
        "product": product.product,
        "state": product.state,
        "state_name": state_name(product.state),
        "cmid": product.cmid or None,
        "channel": product.channel or None,
        "partial_key": product.partial_key or None,
        "granted": _when(product.granted),
        "expires": _when(product.expires),
        "host": product.host or None,
        "iid": product.iid or None,
        "reason": product.reason or None,
        "proof": one.proof,
    }


def machine(shown: Shown) -> dict[str, Any]:
    """All that is known of a machine, as JSON."""
    one, said = shown.machine, shown.machine.report
    return {
        "id": one.mid,
        "name": one.name,
        "domain": one.domain,
        "former": one.former or None,
        "aliases": sorted(".".join(name) for name in one.aliases),
        "addresses": list(one.addresses),
        "port": one.port,
        "transport": one.transport or None,
        "platform": one.platform or None,
        "system": (said.system if said else "") or None,
        "identity": one.identity or None,
        "virtual": said.virtual if said else None,
        "hypervisor": (said.hypervisor if said else "") or None,
        "host_identity": (said.host_identity if said else "") or None,
        "running_instances": said.instances if said else None,
        "macs": list(one.macs),
        "host_keys": list(one.host_keys),
        "sources": list(one.sources),
        "groups": shown.groups,
        "notes": shown.notes or None,
        "first_seen": when(one.first),
        "last_seen": when(one.last),
        "collected": _when(one.collected),
        "tried": _when(shown.tried),
        "outcome": shown.code or None,
        "detail": shown.detail or None,
        "products": [installed(each) for each in shown.products],
    }


def failed(one: Failed) -> dict[str, Any]:
    """A machine that gave no report, and why, as JSON; with the host key that it showed, if it is not believed."""
    extra = dict(one.refusal.extra)
    return {
        "id": one.mid,
        "machine": one.name,
        "code": one.refusal.code,
        "detail": one.refusal.detail,
        "host_key": extra.get("host_key"),
        "fingerprint": extra.get("fingerprint"),
        "next": one.refusal.problem.next_step,
    }


def failures(found: Sequence[Failed], most: int) -> str:
    """Why machines gave no report, for people: how often each reason, what to do about it, and `most` of the machines."""
    rows = [(one.name, one.refusal.code, one.refusal.detail) for one in found[:most]]
    counts = Counter(one.refusal.code for one in found)
    problems = {one.refusal.code: one.refusal.problem for one in found}
    reasons = [
        f"{count} {code}: {problems[code].sentence} {problems[code].next_step}"
        for code, count in counts.most_common()
    ]
    return "\n".join([table(rows, ("machine", "why", "what")), "", *reasons])


def entry(one: Entry) -> dict[str, Any]:
    """A row of the audit log, as JSON."""
    try:
        what = json.loads(one.what)
    except ValueError:  # it was longer than the log keeps
        what = one.what
    return {
        "number": one.number,
        "time": when(one.at),
        "who": one.who,
        "role": one.role,
        "action": one.action,
        "what": what,
        "rows": one.rows,
        "result": one.result,
        "detail": one.detail or None,
    }


def token(one: Token) -> dict[str, Any]:
    """An API token, without what makes it one, as JSON."""
    return {
        "id": token_id(one.digest),
        "user": one.person,
        "label": one.label or None,
        "made": when(one.made),
        "used": _when(one.used),
        "expires": _when(one.expires),
    }
