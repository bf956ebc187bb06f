"""Requests that are sent again: one with an ``Idempotency-Key`` is done once, and answered as it was the first time.

- The key is its caller's: it counts together with the token that sent it. With another request it is refused.
- That it was begun is on disk before it is done. If the service stopped in between, nobody knows whether it was done, and
  the repetition says so instead of doing it twice.
- What says that it may be sent again (a 5xx, or too many requests) is not kept.
- Of the request a keyed digest is kept, whose key is the token itself, which is kept nowhere: it may hold a password.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from volact.http import Response
from volact.protocol import ids
from volact.protocol.policy import DAY
from volact.protocol.problems import Refusal
from volact.vamt import schema

if TYPE_CHECKING:
    from volact.clock import Clock
    from volact.vamt.api.signin import Signed
    from volact.vamt.store import Store

KEPT = DAY
"""Seconds for which an answer is kept."""
_NAME = re.compile(r"[!-~]{1,64}")
_AGAIN = frozenset((401, 408, 421, 429))
_FAILED = 500


class Repeats:
    """What was answered to requests that may come again."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """Keep it in `store`."""
        self._store = store
        self._clock = clock
        self._at_work: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def begin(self, who: Signed, name: str, request: bytes) -> Response | Refusal | None:
        """Begin a request under a key; None if it is to be done now, else what it is answered."""
        if not _NAME.fullmatch(name):
            return Refusal("request-malformed", "An Idempotency-Key has 1 to 64 visible characters of ASCII.")
        digest = ids.b64u(hmac.digest(who.token.encode("ascii"), request, hashlib.sha256))
        with self._lock:
            if (who.digest, name) in self._at_work:
                return Refusal("busy", "The same request is being worked on.")
            self._at_work.add((who.digest, name))
        found: Response | Refusal | None = Refusal("internal")
        try:
            found = self._found(who, name, digest)
        finally:
            if found is not None:
                self._leave(who, name)
        return found

    def _found(self, who: Signed, name: str, digest: str) -> Response | Refusal | None:
        table, now = schema.answered, self._clock.now()
        same = (table.c.token == who.digest) & (table.c.name == name)
        with self._store.writing() as tx:
            row = tx.execute(sa.select(table).where(same)).one_or_none()
            if row is not None and row.at <= now - KEPT:
                tx.execute(sa.delete(table).where(same))
                row = None
            if row is None:
                values = {"token": who.digest, "name": name, "request": digest, "status": None}
                tx.execute(sa.insert(table).values(**values, headers="[]", body=b"", at=now))
                return None
        if row.request != digest:
            return Refusal("request-id-reused", "The Idempotency-Key came with another request.")
        if row.status is None:
            return Refusal("outcome-unknown")
        headers = [(one.encode("latin-1"), value.encode("latin-1")) for one, value in json.loads(row.headers)]
        return Response(row.status, headers, row.body)

    def end(self, who: Signed, name: str, response: Response) -> None:
        """Keep what the request was answered."""
        table = schema.answered
        same = (table.c.token == who.digest) & (table.c.name == name)
        try:
            with self._store.writing() as tx:
                if response.status >= _FAILED or response.status in _AGAIN:
                    tx.execute(sa.delete(table).where(same))
                    return
                said = [(one.decode("latin-1"), value.decode("latin-1")) for one, value in response.headers]
                values = {"status": response.status, "headers": json.dumps(said), "body": response.body}
                tx.execute(sa.update(table).where(same).values(values))
        finally:
            self._leave(who, name)

    def _leave(self, who: Signed, name: str) -> None:
        with self._lock:
            self._at_work.discard((who.digest, name))

    def forget(self) -> None:
        """Forget what is older than answers are kept."""
        table = schema.answered
        with self._store.writing() as tx:
            tx.execute(sa.delete(table).where(table.c.at <= self._clock.now() - KEPT))
