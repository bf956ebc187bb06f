"""Who calls the API: the bearer token in a request, and how often a source may be wrong about it (V6).

- Only an ``Authorization`` header counts: no cookie, nothing in an address, so no other site's page can call for anybody.
- What does not look like a token is refused without a look into the store.
- A source that was wrong too often is refused until it has waited, but for tokens that were good before: nobody shuts out
  those who work already.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, NamedTuple

import structlog

from volact.protocol.problems import Refusal
from volact.sources import Buckets, source_of
from volact.vamt.access import digest_of

if TYPE_CHECKING:
    from volact.clock import Clock
    from volact.vamt.access import Access
    from volact.vamt.people import Person

WRONG_A_MINUTE, WRONG_AT_ONCE = 10, 10
_TOKEN = re.compile(r"vamt_[A-Za-z0-9_-]{43}")
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
_MOST_GOOD = 10_000

_log = structlog.get_logger()


class Signed(NamedTuple):
    """Who calls, and what is kept of the token that says so."""

    person: Person
    token: str
    digest: str


class SignIn:
    """Tells who calls."""

    def __init__(self, access: Access, clock: Clock) -> None:
        """Ask `access` whose a token is."""
        self._access = access
        self._clock = clock
        self._wrong: Buckets[str] = Buckets(WRONG_A_MINUTE, WRONG_AT_ONCE)
        self._good: dict[str, None] = {}
        self._lock = threading.Lock()

    def identify(self, header: str, address: str) -> Signed | Refusal:
        """Who brings this ``Authorization`` header from an address: `token-refused`, or `too-many-requests`."""
        source = source_of(address)
        said = _BEARER.fullmatch(header)
        token = said[1] if said else ""
        if not _TOKEN.fullmatch(token):
            return self._refused(source, Refusal("token-refused")) if header else Refusal("token-refused")
        digest = digest_of(token)
        if digest not in self._good and (refusal := self._waits(source)):
            return refusal
        found = self._access.identify(token)
        if isinstance(found, Refusal):
            with self._lock:
                self._good.pop(digest, None)
            return self._refused(source, found)
        with self._lock:
            self._good[digest] = None
            if len(self._good) > _MOST_GOOD:
                del self._good[next(iter(self._good))]
        return Signed(found, token, digest)

    def _waits(self, source: str) -> Refusal | None:
        """Why a source has to wait; None if it has not."""
        with self._lock:
            _, seconds = self._wrong.look(source, self._clock.now())
        if not seconds:
            return None
        return Refusal(
            "too-many-requests", "Tokens that are not good were tried.", (("retry_after", seconds),)
        )

    def _refused(self, source: str, refusal: Refusal) -> Refusal:
        """Count a wrong token against its source."""
        with self._lock:
            bucket, seconds = self._wrong.look(source, self._clock.now())
            self._wrong.keep(source, bucket)
        if seconds:
            return Refusal(
                "too-many-requests", "Tokens that are not good were tried.", (("retry_after", seconds),)
            )
        _log.warning("sign-in refused", source=source)
        return refusal
