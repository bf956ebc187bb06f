"""What the client remembers of a publisher between two starts: the content of ``state.json``.

Signed by the machine's own key, so that a changed byte is found; whoever owns that key's file (root) can write
another, which PROTOCOL section 8 accepts. Nothing secret is in it: everybody on the machine may read it.
"""

from __future__ import annotations

from typing import Any

from volact.client.timekeeping import Fold
from volact.protocol import documents, jws
from volact.protocol.ids import Jwk
from volact.protocol.problems import BrokenData
from volact.protocol.values import NamedTuple

VERSION = 5
"""2: leases (K22). 3: hosts found by DNS (D3). 4: returns (M6), a clock that is ahead. 5: several returns.

An older file is read; what it lacks has its default.
"""
_SEVERAL_RETURNS = 5
RETURNS_KEPT = 16
"""So many returns are remembered of a product."""
NAME = "state"
LIMIT = 256 * 1024


class Record(NamedTuple):
    """What is remembered of one product.

    Attributes:
        started: first start, or the last `/rearm`.
        fp: the fingerprint at first start, at first; the one of the last grant after it.
        rearms: how often it was reset.
        key_removed: whether its key was removed.
        changed: when the hardware was first seen to have changed.
        blocked: when a block of its grant was learned.
        next_try: before which moment no further activation or renewal is tried.
        failed: code of the refusal that the last try came to; empty after a success.
        place: where in the spread of the retry interval this machine tries while its tries fail, in `planning.PLACES`.
        lease: jti of the lease that was stored last.
        lease_end: when it ends: by itself, or by the product's validity when it was stored.
        heard: when a KMS host last granted one.
        host: the host that did, host:port, for people.
        renewal: renewal interval that a host told, seconds; None if none did, or own ones were set since.
        retry: retry interval, likewise.
        counted: what the host counted, when it last said so.
        checkin: req, prev, fp and vm of a check-in that may have been sent and whose answer did not come.
        known: the host that answered last, if DNS named it: name, port, and the address at which it answered.
        given_back: whether nothing is in force since an activation was given back (M6).
        returned: what was given back, the last of it last: activation, its newest confirmation that was known, and
            when that was signed.
        superseded: the confirmation of which the authority said at a return that it is not the newest; empty if none.
    """

    started: int
    fp: dict[str, str]
    rearms: int = 0
    key_removed: bool = False
    changed: int | None = None
    blocked: int | None = None
    next_try: int | None = None
    failed: str = ""
    place: int | None = None
    lease: str | None = None
    lease_end: int | None = None
    heard: int | None = None
    host: str = ""
    renewal: int | None = None
    retry: int | None = None
    counted: int | None = None
    checkin: dict[str, Any] | None = None
    known: tuple[str, int, str] | None = None
    given_back: bool = False
    returned: tuple[tuple[str, str, int], ...] = ()
    superseded: str = ""

    def with_return(self, act: str, confirmation: str, signed: int) -> Record:
        """The record of a product of which nothing is in force since an activation was given back (M6)."""
        others = [one for one in self.returned if one[0] != act]
        kept = (*others, (act, confirmation, signed))[-RETURNS_KEPT:]
        return self._replace(given_back=True, returned=kept, next_try=None, failed="")

    def without_lease(self) -> Record:
        """The record after its lease was set aside, with what a host told."""
        return self._replace(lease=None, lease_end=None, renewal=None, retry=None, counted=None, checkin=None)


class State(NamedTuple):
    """What is remembered of one publisher.

    Attributes:
        cmid: thumbprint of the key that signed this: the machine's identity.
        pub: the publisher.
        clock: what was seen of the clocks.
        products: product id -> record.
        identity_at: when a server last made this machine take a new identity.
        pair: which status list was taken last; [0, 0] for none.
        looked_for: the ids that were looked for in it.
        marks: what it says of them: ``[kind, id, mode]``.
        list_checked: when it was last asked for.
    """

    cmid: str
    pub: str
    clock: Fold
    products: dict[str, Record]
    identity_at: int | None = None
    pair: tuple[int, int] = (0, 0)
    looked_for: tuple[str, ...] = ()
    marks: tuple[tuple[str, str, str], ...] = ()
    list_checked: int | None = None

    def payload(self) -> bytes:
        """The bytes that are signed."""
        members = self._asdict()
        del members["cmid"]
        members["clock"] = list(self.clock)
        members["products"] = {name: record._asdict() for name, record in self.products.items()}
        return jws.write_json({"v": VERSION, **members})


def read(bundle: dict[str, Any], where: str) -> State:
    """Verify and read what stands in the file `where`.

    Raises:
        DocumentRefused: if it is no such document, or was changed.
        BrokenData: if a newer version wrote it, or a member is missing.
    """
    token = jws.split(bundle.get("token"), limit=LIMIT)
    jwk = Jwk.read(bundle.get("jwk"))
    if token.typ != documents.typ_of(NAME) or jwk.thumbprint() != token.kid:
        raise BrokenData(f"{where} is not this client's state.")
    jws.check_signature(token, jws.load_key(jwk))
    members = jws.read_json(token.payload)
    check_version(members, where)
    try:
        members["clock"] = Fold(*members["clock"])
        several = members["v"] >= _SEVERAL_RETURNS
        members["products"] = {
            name: _record(record, several=several) for name, record in members["products"].items()
        }
        members["pair"] = tuple(members["pair"])
        members["looked_for"] = tuple(members["looked_for"])
        members["marks"] = tuple(tuple(mark) for mark in members["marks"])
        del members["v"]
        return State(token.kid, **members)
    except (KeyError, TypeError, AttributeError):
        raise BrokenData(f"{where} is not complete.") from None


def _record(members: dict[str, Any], *, several: bool) -> Record:
    known, returned = members.get("known"), members.get("returned")
    if returned is None:
        returned = []
    elif not several:
        returned = [returned]
    typed = {
        "known": None if known is None else _known(*known),
        "returned": tuple(_returned(*one) for one in returned),
    }
    return Record(**{**members, **typed})


def _known(name: str, port: int, ip: str) -> tuple[str, int, str]:
    if not (type(name) is str and type(port) is int and type(ip) is str):
        raise TypeError
    return name, port, ip


def _returned(act: str, confirmation: str, signed: int) -> tuple[str, str, int]:
    if not (type(act) is str and type(confirmation) is str and type(signed) is int):
        raise TypeError
    return act, confirmation, signed


def check_version(members: dict[str, Any], where: str, newest: int = VERSION) -> None:
    """Refuse a file that a newer version wrote, before a member of it is looked at.

    Raises:
        BrokenData: ``store-newer``, or that there is no version in it.
    """
    version = members.get("v")
    if type(version) is not int:
        raise BrokenData(f"{where} says no version.")
    if version > newest:
        raise BrokenData(f"{where} has version {version}; this is {newest}.", "store-newer")
