"""The status list: what is blocked or was returned, as a signed head and a body that everybody may read (PROTOCOL section 7).

A new version is written in the transaction that blocks or returns something, and daily, so that `nxt` never passes while the
authority runs. The head is recorded before it is signed, like every answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.authority import records
from volact.authority.keyring import STATUS, Recorded
from volact.authority.records import StoredList
from volact.protocol import documents, ids, status
from volact.protocol.policy import DAY, STATUS_LIST_DUE
from volact.protocol.problems import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

    from volact.authority.keyring import Keyring

RENEWED_EVERY = DAY
_ID_BYTES = 16


class Published(NamedTuple):
    """A status list as it is served: its ETag, and head bundle, line feed and body in one."""

    ver: int
    etag: str
    content: bytes


def renew(tx: Connection, keyring: Keyring, randomness: Callable[[int], bytes], now: int) -> int:
    """Write a new version of the list from the rows as they are in this transaction; answers its number.

    Raises:
        Refused: `authority-expired`, if no status key is in force.
    """
    records.lock_publisher(tx)
    delegation = keyring.in_force(STATUS, now)
    if isinstance(delegation, Refusal):
        raise Refused(delegation)
    body = b"".join(status.lines(_distinct(tx, now)))
    ver, nxt = records.newest_list(tx) + 1, now + STATUS_LIST_DUE
    payload = documents.write(
        "status",
        {
            **keyring.common(),
            "iss": keyring.status.kid,
            "iat": now,
            "jti": ids.b64u(randomness(_ID_BYTES)),
            "sub": keyring.publisher.pub,
            "ver": ver,
            "nxt": nxt,
            "dig": ids.digest(body),
            "len": len(body),
        },
    )
    records.add_status_list(tx, StoredList(ver, now, nxt, payload, body, keyring.status.kid, delegation.jti))
    return ver


def _distinct(tx: Connection, now: int) -> list[status.Entry]:
    """One entry a (kind, id): a host may be blocked under two keys. Activations, of which there are most, are one row each."""
    entries = records.blocked(tx, now)
    found: dict[tuple[str, str], status.Entry] = {}
    for entry in sorted(
        (one for one in entries if one.kind != "act"), key=lambda one: one.since, reverse=True
    ):
        found[entry.kind, entry.id] = entry
    return [one for one in entries if one.kind == "act"] + list(found.values())


def due(stored: StoredList, now: int) -> bool:
    """Whether a list is a day old, so that a new version should go out."""
    return now - stored.iat >= RENEWED_EVERY


def published(stored: StoredList, keyring: Keyring) -> Published:
    """Sign a recorded version for serving."""
    head = keyring.bundle(Recorded("status", stored.payload, stored.kid, stored.delegation))
    etag = f'"{keyring.delegation(stored.delegation).iat}.{stored.ver}"'
    return Published(stored.ver, etag, head + b"\n" + stored.body)
