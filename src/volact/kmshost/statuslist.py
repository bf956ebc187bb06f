"""The publisher's status list as a host holds it: taken, kept for all hosts of the count, obeyed and passed on (M5, F41).

- Nothing of a list is believed before its head and its whole body hold; an older one than is known is not taken.
- A machine that the list names is refused, in either mode: a lease is something new. A host that it names, or whose
  activation or key it names, answers nobody.
- It is kept, served and looked through as the bytes that came: a list may be 64 MiB long.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from volact.kmshost import schema, setup
from volact.protocol import status, trust

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from volact.kmshost.store import Store
    from volact.protocol.documents import Document
    from volact.protocol.trust import Roots

Pair = tuple[int, int]
NONE: Pair = (0, 0)
"""The pair of a host that holds no list (PROTOCOL section 7)."""


class Held:
    """A list that holds. Equal to none but itself: it is large, and `pair` tells lists apart.

    Attributes:
        pair: which list it is.
        content: the list as it is served: its head's bundle, line feed, body. One copy, for all who fetch it.
    """

    def __init__(self, pair: Pair = NONE, head: str = "", body: bytes = b"") -> None:
        """Hold the bundle of a list's head, and its body."""
        self.pair = pair
        self.content = head.encode("ascii") + b"\n" + body
        self._body = len(head) + 1

    def _names(self, kind: str, name: str) -> bool:
        return bool(status.find(self.content, kind, name, start=self._body))

    def blocks_machine(self, cmid: str) -> bool:
        """Whether the publisher blocked a machine."""
        return self._names("machine", cmid)

    def blocks_host(self, host: str, delegation: Document) -> bool:
        """Whether the publisher blocked this host, or took back the activation that its delegation stands on."""
        return self._names("host", host) or self._names("act", delegation["act"])

    @property
    def etag(self) -> str:
        """What tells this list from others, as the authority writes it."""
        return '"{}.{}"'.format(*self.pair)


def held(tx: Connection) -> Held:
    """The list that the hosts of this count hold."""
    row = tx.execute(sa.select(schema.status_list)).one_or_none()
    return Held((row.issued, row.ver), row.head, bytes(row.body)) if row else Held()


def pair(tx: Connection) -> Pair:
    """Which list that is, without reading it."""
    table = schema.status_list
    row = tx.execute(sa.select(table.c.issued, table.c.ver)).one_or_none()
    return (row.issued, row.ver) if row else NONE


def fetched(tx: Connection) -> int | None:
    """When it was asked for last, with success; None if never."""
    return tx.execute(sa.select(schema.status_list.c.fetched)).scalar()


def note(tx: Connection, now: int) -> None:
    """Note that the list that is held is the newest there is."""
    tx.execute(sa.update(schema.status_list).values(fetched=now))


def take(books: Store, roots: Roots, data: bytes, now: int) -> bool:
    """Take a list, head line and body, for all hosts of the count; whether it was a newer one.

    Raises:
        DocumentRefused: if it does not hold.
        VolactError: if it cannot be stored; then nothing is.
    """
    head, _, body = data.partition(b"\n")
    bundle = trust.read_bundle(head)
    granted = trust.take_up(trust.verify(bundle, "status", roots))
    status.check_body(granted.document, [body])
    for _line in status.read(body.splitlines(keepends=True)):
        continue  # one that is none refuses the list
    found = status.pair(granted)
    with books.writing() as tx:
        setup.learn(tx, granted.roots, [])
        if found <= pair(tx):
            note(tx, now)
            return False
        tx.execute(sa.delete(schema.status_list))
        tx.execute(sa.insert(schema.status_list).values(_row(found, bundle, body, now)))
    return True


def _row(found: Pair, bundle: dict[str, Any], body: bytes, now: int) -> dict[str, Any]:
    head = json.dumps(bundle, separators=(",", ":"))
    return {"id": 1, "issued": found[0], "ver": found[1], "head": head, "body": body, "fetched": now}
