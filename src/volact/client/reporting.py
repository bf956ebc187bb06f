"""What the client shows: one row for each installed product, read without rights and without writing anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.client import check, folder, lifecycle
from volact.protocol import ids, machine
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from volact.client.installation import Surroundings
    from volact.client.lifecycle import Licence
    from volact.client.store import Store
    from volact.facts import Facts
    from volact.protocol.policy import Policy

KMS = "kms"
"""The channel of a product without a key (K22)."""


_MEMBERS = (
    "publisher",
    "cmid",
    "product",
    "state",
    "state_name",
    "channel",
    "partial_key",
    "granted",
    "expires",
    "next_try",
    "host",
    "iid",
    "virtual",
    "reason",
    "grant",
)


class Row(NamedTuple):
    """One product on this machine, for people; `members` is what ``status --json`` holds of it.

    Attributes:
        members: the row of ``status --json``.
        standing: the state.
        name: the product's name; empty if its file is damaged.
        policy: its policy; None likewise.
        rearms_left: how often it may still be reset.
        unreadable: parts of the fingerprint that only an administrator sees.
        thin: whether too little is seen to recognise this machine after a rebuild.
        problem: what is wrong with the files; empty if nothing is.
        other_key: whether the activation is another key's than the installed one's.
    """

    members: dict[str, Any]
    standing: Licence
    name: str = ""
    policy: Policy | None = None
    rearms_left: int = 0
    unreadable: tuple[str, ...] = ()
    thin: bool = False
    problem: str = ""
    other_key: bool = False


def rows(stores: Sequence[Store], around: Surroundings) -> list[Row]:
    """A row for every installed product; the first store in which a product stands counts, as in `check()`."""
    found: dict[tuple[str, str], Row] = {}
    for store in stores:
        for pub in store.publishers():
            for product in store.products(pub):
                if (pub, product) not in found:
                    found[pub, product] = _row(store, pub, product, around)
    return list(found.values())


def _row(store: Store, pub: str, product: str, around: Surroundings) -> Row:
    members: dict[str, Any] = dict.fromkeys(_MEMBERS)
    members.update(publisher=pub, product=product, virtual=False)
    try:
        return _whole_row(store, pub, product, around, members)
    except VolactError as error:
        standing = lifecycle.unlicensed(error.refusal.code)
        return Row(_with_standing(members, standing), standing, problem=str(error.refusal))


def _whole_row(store: Store, pub: str, product: str, around: Surroundings, members: dict[str, Any]) -> Row:
    roots = folder.roots(store.home, pub)
    installed = folder.product(store.home, pub, product, roots)
    facts = around.facts(roots.lab)
    standing = check.standing_in(
        store.home, roots, product, facts.values, check.look(around.clock(roots.lab))
    )
    state, grant, label = (
        folder.state(store.home, pub),
        folder.grant(store.home, pub, product, roots),
        store.label(pub, product),
    )
    record = state.products.get(product) if state else None
    members.update(
        cmid=state.cmid if state else None,
        channel=label.kind if label else None if grant else KMS,
        partial_key=label.label if label else None,
        granted=moment(grant.document.iat) if grant else None,
        next_try=moment(record.next_try) if record else None,
        iid=_iid(store, pub, product),
        virtual=facts.virtual,
        grant=grant.bundle() if grant else None,
    )
    return Row(
        _with_standing(members, standing),
        standing,
        name=installed.document["name"],
        policy=installed.policy,
        rearms_left=max(0, installed.policy.rearms - (record.rearms if record else 0)),
        unreadable=facts.unreadable,
        thin=_is_thin(pub, product, facts),
        other_key=bool(label and grant and label.key != grant.document["key"]),
    )


def _with_standing(members: dict[str, Any], standing: Licence) -> dict[str, Any]:
    return {
        **members,
        "state": standing.state,
        "state_name": lifecycle.STATE_NAMES[standing.state],
        "reason": standing.reason,
        "expires": moment(standing.end),
    }


def _iid(store: Store, pub: str, product: str) -> str | None:
    """The IID of the pending request, for the one who may read that; no request, no IID."""
    try:
        bundle = store.pending(pub, product)
    except VolactError:
        return None
    if bundle is None:
        return None
    from volact.client.contact import request_document  # noqa: PLC0415 - HTTP is not needed to show a status

    return ids.iid_of_request(request_document(bundle).claims)


def _is_thin(pub: str, product: str, facts: Facts) -> bool:
    seen = machine.fingerprint(pub, product, facts.values)
    return machine.compare(seen, seen).thin


def moment(seconds: int | None) -> str | None:
    """A time as RFC 3339 UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def lines(row: Row) -> Iterator[str]:
    """A row as labelled lines, in the words of rules E and S."""
    members = row.members
    yield f"Name: {row.name or members['product']} ({members['product']})"
    if row.problem:
        yield f"Problem: {row.problem}"
    yield f"License Status: {members['state_name']} ({members['state']})"
    yield f"Reason: {members['reason']}"
    if row.standing.warn:
        yield f"Notice: {row.standing.warn}"
    yield f"Channel: {_CHANNELS.get(members['channel'], '-')}"
    yield f"Partial Product Key: {members['partial_key'] or '-'}"
    if row.other_key:
        yield f"Notice: The key ...-{members['partial_key']} is not activated yet; the activation is another key's."
    if members["granted"]:
        yield f"Activated: {members['granted']}"
    yield f"Expires: {expiry(row)}"
    if members["next_try"]:
        yield f"Next try: {members['next_try']}"


def details(row: Row) -> Iterator[str]:
    """What `/dlv` says beyond `/dli`."""
    members = row.members
    yield f"Publisher: {members['publisher']}"
    yield f"Client Machine ID (CMID): {members['cmid'] or '-'}"
    yield f"Installation ID (IID): {members['iid'] or '- (no request is pending)'}"
    yield f"Remaining rearm count: {row.rearms_left}"
    yield f"Virtual machine: {'yes' if members['virtual'] else 'no'}"
    if row.policy:
        yield f"Renewal interval: {row.policy.renewal // 60} minutes"
        yield f"Retry interval: {row.policy.retry // 60} minutes"
    if row.unreadable:
        yield f"Only an administrator can read: {', '.join(row.unreadable)}"
    if row.thin:
        yield "Fingerprint: thin; after a rebuild this machine would not be recognised"


_CHANNELS = {"mak": "MAK", "retail": "Retail", KMS: "KMS client"}


def expiry(row: Row) -> str:
    """When the state ends, in words."""
    if row.members["expires"]:
        return f"{row.members['state_name']} until {row.members['expires']}"
    return "never: permanently activated" if row.standing.licensed else "-"
