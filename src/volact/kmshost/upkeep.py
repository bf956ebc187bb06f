"""What a host does with its publisher by itself: extends its delegation, takes the status list (K18, K21, M5; F41).

- A delegation that was given online is extended at half of its time, then daily until that succeeds. One that came by
  file lasts longer than any that is given online; of its end the host only warns.
- The list is taken daily, or hourly after a failure; hosts of one count take it for each other. (`statuslist`).
- Nothing of it stops the host. A failure is said once, and again only if it is another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from volact.calls import Caller, problem_of
from volact.commands import when
from volact.kmshost import statuslist
from volact.kmshost import store as sql
from volact.kmshost.activating import EXTEND, Activating
from volact.protocol import policy, trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused, Unreachable, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.calls import Answer
    from volact.kmshost.activating import Line
    from volact.kmshost.keyring import Keyring
    from volact.kmshost.setup import Opened
    from volact.protocol.documents import Document
    from volact.protocol.trust import Roots

_OK, _NOT_MODIFIED = 200, 304
_RETRY_LIST = policy.HOUR
_EXTEND_AT = 2
"""At one part in so many of a delegation's time it is extended."""
_EVERY = policy.DAY

_log = structlog.get_logger()


class Tries(NamedTuple):
    """When something was tried last, seconds UTC, and the code of its failure, empty after a success."""

    at: int | None = None
    failed: str = ""


def _since(moment: int | None, now: int, wait: int) -> bool:
    """Whether `wait` has gone by since a moment; a moment that lies ahead was noted by a clock that was wrong."""
    return moment is None or not moment <= now < moment + wait


def is_extension_due(iat: int, exp: int, tries: Tries, now: int) -> bool:
    """Whether a delegation is to be extended online now (K18)."""
    if exp - iat > policy.HOST_DELEGATION_ONLINE:
        return False
    return _EXTEND_AT * (now - iat) >= exp - iat and _since(tries.at, now, _EVERY)


def is_list_due(fetched: int | None, tries: Tries, now: int) -> bool:
    """Whether the status list is to be taken now (F41)."""
    return _since(fetched, now, policy.STATUS_CHECK_EVERY) and _since(tries.at, now, _RETRY_LIST)


class Upkeep:
    """The upkeep of one process.

    Attributes:
        extension: how the last extension went.
        list: how the last taking of the list went.
    """

    def __init__(
        self,
        opened: Opened,
        keyring: Callable[[], Keyring | None],
        call: Callable[[str, Sequence[str]], Line] = Caller,
    ) -> None:
        """Keep up the host that is `opened` and signs with what `keyring` says; reach the authority by `call`."""
        self._opened = opened
        self._keyring = keyring
        self._call = call
        self.extension = self.list = Tries()

    def work(self, now: int) -> None:
        """Do what is due; takes as long as an authority takes that does not answer.

        Raises:
            VolactError: if the store cannot be read.
        """
        keyring = self._keyring()
        newest = keyring.newest if keyring else None
        if keyring is None or newest is None:
            return
        with self._opened.store.reading() as tx:
            fetched = statuslist.fetched(tx)
        extends = is_extension_due(newest.iat, newest["exp"], self.extension, now)
        fetches = is_list_due(fetched, self.list, now)
        if not extends and not fetches:
            return
        products = [one.document for one in self._opened.products().values()]
        reachable = next((one for one in products if one["url"]), None)
        if reachable is None:
            return  # a publisher without an address, or a host that is meant to live without one
        if extends:
            self.extension = self._try("extend", self.extension, now, self._extend)
        if fetches:
            roots = keyring.roots
            self.list = self._try("status list", self.list, now, lambda: self._fetch(roots, reachable, now))

    def _extend(self) -> str:
        with self._opened.store.reading() as tx:
            publisher = sql.publisher(tx) or self._opened.publisher
        done = Activating(self._opened._replace(publisher=publisher), self._call).online(EXTEND, None)
        return f"until {when(done.until)}"

    def _try(self, what: str, before: Tries, now: int, work: Callable[[], str]) -> Tries:
        try:
            done = work()
        except VolactError as error:
            refusal = error.refusal
            if refusal.code == "in-use":  # a command is at the same: look again when it has done
                return before
            if refusal.code != before.failed:
                _log.warning(what, problem=f"{refusal.code}: {refusal.detail or error}")
            return Tries(now, refusal.code)
        if done:
            _log.info(what, done=done)
        return Tries(now)

    def _fetch(self, roots: Roots, product: Document, now: int) -> str:
        books = self._opened.store
        with books.reading() as tx:
            known = statuslist.pair(tx)
        headers = {"If-None-Match": '"{}.{}"'.format(*known)} if known != statuslist.NONE else {}
        with self._call(product["url"], product["tls"]) as caller:
            answer = caller.get("/v1/status", headers)
        if answer.status == _NOT_MODIFIED:
            with books.writing() as tx:
                statuslist.note(tx, now)
            return ""
        if answer.status != _OK:
            raise _no_list(answer)
        return "taken" if statuslist.take(books, roots, answer.body, now) else ""


def _no_list(answer: Answer) -> VolactError:
    try:
        refusal = problem_of(trust.read_bundle(answer.body))
    except DocumentRefused:
        refusal = None
    if refusal is not None:
        return Refused(refusal)
    return Unreachable(Refusal("answer-nonsense", f"Status {answer.status} instead of a status list."))
