"""What the client shows: one row for each installed product, read without rights and without writing anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from volact.client import check, folder, lifecycle
from volact.client.discovery import Known
from volact.client.installation import in_force
from volact.protocol import ids, machine
from volact.protocol.policy import DAY, HOUR, MINUTE
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from volact.client.installation import Surroundings
    from volact.client.lifecycle import Licence
    from volact.client.state import Record
    from volact.client.store import Settings, Store
    from volact.facts import Facts
    from volact.protocol.policy import Policy
    from volact.protocol.trust import Granted

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
        kms: what `/dlv` says of the product as a KMS client.
        returning: whether a return waits for its receipt.
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
    kms: Kms | None = None
    returning: bool = False


class Kms(NamedTuple):
    """A product as a KMS client: whom it asks, how often, and what it was told.

    Attributes:
        host: host:port of the one that is asked first; None if none is known.
        set_by: how it is known: ``hand``, or ``dns`` for the one that answered last; None if none is.
        answered: host:port of the one that granted last.
        heard: when it did.
        renewal: renewal interval in force, seconds.
        renewal_from: whose it is: ``host``, ``own`` or ``product``.
        retry: retry interval in force, seconds.
        retry_from: whose that is.
        lease_ends: when the lease ends; None if there is none.
        counted: what a host said last that it counts.
        failed: code of the last try, if it failed.
        domain: the domain set by hand; None if none is.
        port: the port set by hand; without a host that of every host that DNS names.
        caching: whether the host that answered last is asked first.
        ip: the address at which the host that DNS named answered.
    """

    host: str | None
    set_by: str | None
    answered: str | None
    heard: int | None
    renewal: int
    renewal_from: str
    retry: int
    retry_from: str
    lease_ends: int | None
    counted: int | None
    failed: str | None
    domain: str | None
    port: int | None
    caching: bool
    ip: str | None

    def members(self) -> dict[str, Any]:
        """What ``/dlv --json`` holds of it, under ``kms``."""
        return {**self._asdict(), "heard": moment(self.heard), "lease_ends": moment(self.lease_ends)}


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
    state, held, label = (
        folder.state(store.home, pub),
        folder.held(store.home, pub, product, roots),
        store.label(pub, product),
    )
    record = state.products.get(product) if state else None
    leased = held is not None and held.document.name == "lease"
    kms = _kms(store.settings(pub, product), record, held if leased else None, installed.policy)
    channel = label.kind if label else KMS if leased or not held else None
    members.update(
        cmid=state.cmid if state else None,
        channel=channel,
        partial_key=label.label if label else None,
        granted=moment(held.document.iat) if held else None,
        next_try=moment(record.next_try) if record else None,
        host=kms.host,
        iid=_iid(store, pub, product),
        virtual=facts.virtual,
        grant=held.bundle() if held else None,
    )
    return Row(
        _with_standing(members, standing),
        standing,
        name=installed.document["name"],
        policy=installed.policy,
        rearms_left=max(0, installed.policy.rearms - (record.rearms if record else 0)),
        unreadable=facts.unreadable,
        thin=_is_thin(pub, product, facts),
        other_key=bool(label and held and not leased and label.key != held.document["key"]),
        kms=kms,
        returning=store.has_return(pub, product),
    )


def _kms(own: Settings, record: Record | None, lease: Granted | None, policy: Policy) -> Kms:
    renewal, retry = in_force(record, own, policy)
    known = Known(*record.known) if record and record.known and not own.host else None
    host = own.host or (known.address if known else None)
    return Kms(
        host=str(host) if host else None,
        set_by="hand" if own.host else "dns" if known else None,
        answered=record.host or None if record else None,
        heard=record.heard if record else None,
        renewal=renewal,
        renewal_from=_whose(record.renewal if record else None, own.renewal),
        retry=retry,
        retry_from=_whose(record.retry if record else None, own.retry),
        lease_ends=check.lease_end(record, lease, policy) if record and lease else None,
        counted=record.counted if record else None,
        failed=record.failed or None if record else None,
        domain=own.domain or None,
        port=own.port,
        caching=own.caching,
        ip=known.ip if known else None,
    )


def _whose(told: int | None, own: int | None) -> str:
    return "host" if told else "own" if own else "product"


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


def span(seconds: int) -> str:
    """A length of time in words, roughly."""
    for unit, length in (("days", DAY), ("hours", HOUR)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds // MINUTE} minutes"


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
    if row.returning:
        yield f"Return: {_RETURNS[members['reason'] == 'activation-returned']}"
    if row.kms:
        yield from _kms_details(row.kms, asks_host=members["channel"] == KMS)
    if row.unreadable:
        yield f"Only an administrator can read: {', '.join(row.unreadable)}"
    if row.thin:
        yield "Fingerprint: thin; after a rebuild this machine would not be recognised"


def _kms_details(kms: Kms, *, asks_host: bool) -> Iterator[str]:
    if asks_host:
        yield from _host_details(kms)
        yield f"Renewal interval: {kms.renewal // 60} minutes ({_WHOSE[kms.renewal_from]})"
    yield f"Retry interval: {kms.retry // 60} minutes ({_WHOSE[kms.retry_from]})"
    if not asks_host:
        return
    if kms.lease_ends is not None:
        yield f"Lease ends: {moment(kms.lease_ends)}"
    if kms.heard is not None:
        yield f"Last granted: {moment(kms.heard)} by {kms.answered}"
    if kms.counted is not None:
        yield f"Count at the KMS host, as it last said: {kms.counted}"
    if kms.failed:
        yield f"Last try: {kms.failed}"


def _host_details(kms: Kms) -> Iterator[str]:
    """How the host is found, in the words of Windows' slmgr."""
    if kms.set_by == "hand":
        yield f"Registered KMS machine name: {kms.host} (set by hand)"
    elif kms.host:
        yield f"KMS machine name from DNS: {kms.host}"
        yield f"KMS machine IP address: {kms.ip}"
    else:
        yield "DNS auto-discovery: KMS name not available (by hand: `slmgr /skms NAME[:PORT]`)"
    if kms.domain:
        yield f"Registered KMS SRV record lookup domain: {kms.domain}"
    if kms.port is not None and kms.set_by != "hand":
        yield f"Registered KMS port: {kms.port} (of every host from DNS)"
    yield f"KMS host caching is {'enabled' if kms.caching else 'disabled'}"


_RETURNS = {
    False: "not answered yet; the service sends the same again, `volact client return` does so at once",
    True: "promised by file; `volact client return --file FILE` writes the same again",
}
_WHOSE = {"host": "told by the KMS host", "own": "set on this machine", "product": "the product's"}
_CHANNELS = {"mak": "MAK", "retail": "Retail", KMS: "KMS client"}


def expiry(row: Row) -> str:
    """When the state ends, in words."""
    if row.members["expires"]:
        return f"{row.members['state_name']} until {row.members['expires']}"
    return "never: permanently activated" if row.standing.licensed else "-"
