"""Publishing a host in DNS: what is due, one domain at a time, and what came of it (D1, D2, F23, F24, T18).

- Published again every 24 h, and at once when what is to be published, the server or the key has changed; after a
  failure every hour. A failure is event 12293, a success 12294; neither stops the host.
- What counts is what the server serves afterwards, not what it answered; but a clear refusal is one.
- The table `published` remembers what is this host's own in DNS. It is written before each update, so that a host that
  dies in between still takes back or replaces its own record, and nobody else's.
- Without a key nothing is sent. At the stop nothing takes longer than the `Deadline`, whatever the servers do.
"""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import dns.resolver
import structlog

from volact.files import PRIVATE, write_durably
from volact.kmshost import dnskey, dnsrecords, dnsupdates, nameserver, whereabouts
from volact.kmshost import store as sql
from volact.kmshost.beside import Beside, Failures
from volact.kmshost.nameserver import Deadline, Reply
from volact.protocol import policy
from volact.protocol.problems import Refusal, Unreachable, VolactError, printable
from volact.tsig import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from volact.config import KmshostSettings
    from volact.kmshost.dnsrecords import DnsRecord, Whereabouts
    from volact.kmshost.nameserver import Resolving, Server
    from volact.kmshost.store import Store

FAILED, SUCCEEDED = 12293, 12294
OK, WITHDRAWN = "ok", "withdrawn"
_NOTE = "dns.json"
DOMAIN_SECONDS = 30.0
"""So long the publication in one domain takes at most."""
_STOP_SECONDS = policy.WITHDRAW_WITHIN - 0.5
_TRIES = 3
"""How often an update is made anew because what it rests on has changed meanwhile, and what is served is read."""
_PAUSE = 0.3
"""Seconds between two looks at what is served: some servers take a moment."""
_WORK = "DNS publishing"
_LOOK_SECONDS = 0.5
_MOST_OWN = 8
"""So many records of one domain are remembered while it is not known which of them the server took."""

_log = structlog.get_logger()


class Result(NamedTuple):
    """What came of publishing or withdrawing in one domain.

    Attributes:
        domain: the domain.
        owner: the name of its SRV record.
        code: ``ok``, ``withdrawn``, or the code of a refusal.
        detail: what is to be said beside that; may be empty.
        server: the server that was asked, ``ADDRESS port PORT``; empty if none was found.
        time: when, seconds UTC.
    """

    domain: str
    owner: str
    code: str
    detail: str
    server: str
    time: int

    @property
    def done(self) -> bool:
        """Whether it succeeded."""
        return self.code in (OK, WITHDRAWN)

    @property
    def event(self) -> sql.Event:
        """It as an event (rule E)."""
        return sql.Event(self.time, SUCCEEDED if self.done else FAILED, self.code, host=self.domain)


def log(result: Result) -> None:
    """Write a result to the log."""
    say = _log.info if result.done else _log.warning
    say(
        "DNS publishing " + ("succeeded" if result.done else "failed"),
        event_id=result.event.event,
        result=result.code,
        domain=result.domain,
        owner=result.owner,
        detail=result.detail,
        server=result.server,
    )


def results(folder: Path) -> list[Result]:
    """What came of the last try in each domain, as the host's folder remembers it."""
    try:
        found = json.loads((folder / _NOTE).read_bytes())
        read = [Result(**{name: one[name] for name in Result._fields}) for one in found]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    whole = [one for one in read if all(isinstance(value, str) for value in one[:-1])]
    return [one for one in whole if type(one.time) is int]


class _Tried(NamedTuple):
    """A try in a domain: what was wanted (None: to withdraw) and all that it depends on, when, whether it succeeded."""

    wanted: object
    time: int
    done: bool


class Publisher:
    """Publishes the records of one host; calls from several threads are in order for each domain."""

    def __init__(
        self,
        store: Store,
        host: str,
        folder: Path,
        now: Callable[[], int],
        *,
        resolver: Resolving = dns.resolver.Resolver,
        here: Callable[[KmshostSettings], Whereabouts] = whereabouts.here,
        report: Callable[[Result], None] = lambda _result: None,
    ) -> None:
        """Publish for the host `host`, whose folder is `folder`; `now` is the clock, seconds UTC.

        `report` is told of each result.
        """
        self._store, self._host, self._folder, self._now = store, host, folder, now
        self._resolver, self._here, self._report = resolver, here, report
        self._locks: dict[str, threading.Lock] = {}
        self._writing = threading.Lock()
        self._servers: dict[str, Server] = {}
        self._tried: dict[str, _Tried] = {}
        self._looked: tuple[object, int] | None = None
        self._ending = threading.Event()
        self._current: Deadline | None = None

    # --- what is due ----------------------------------------------------------------------------------------

    def wanted(self, settings: KmshostSettings, port: int) -> tuple[DnsRecord, ...]:
        """What is to be published by these settings, which are without a problem, and this port."""
        if not (settings.dns_publishing and settings.dns_domains.strip()):
            return ()
        return dnsrecords.wanted(settings, self._here(settings), port)

    def look(self, settings: KmshostSettings, port: int, *, serving: bool) -> None:
        """Publish what is due, and withdraw what is there and is not wanted; nothing is, unless the host is `serving`."""
        wanted = self.wanted(settings, port) if serving else ()
        rests_on = settings.dns_server, settings.dns_key_file, _state_of(settings.dns_key_file)
        now = self._now()
        for record in wanted:
            if self._due(record.domain, (record, rests_on), now):
                result = self.publish(record, settings)
                self._tried[record.domain] = _Tried((record, rests_on), now, result.done)
        seen = (tuple(one.domain for one in wanted), rests_on)
        if self._looked and self._looked[0] == seen and 0 <= now - self._looked[1] < policy.PUBLISH_AGAIN:
            return
        for domain in self._domains():
            if domain not in seen[0]:
                self._tried.pop(domain, None)
                self.withdraw(domain, settings, Deadline(DOMAIN_SECONDS))
        self._looked = seen, now

    def publish_all(self, settings: KmshostSettings, port: int) -> list[Result]:
        """Publish everything now, due or not, and withdraw what is there and is not wanted."""
        wanted = self.wanted(settings, port)
        names = [one.domain for one in wanted]
        done = [self.publish(record, settings) for record in wanted]
        left = [domain for domain in self._domains() if domain not in names]
        return done + [self.withdraw(domain, settings, Deadline(DOMAIN_SECONDS)) for domain in left]

    def _due(self, domain: str, wanted: object, now: int) -> bool:
        tried = self._tried.get(domain)
        if tried is None or tried.wanted != wanted:
            return True
        # A clock that was set back must not put it off.
        return not 0 <= now - tried.time < (policy.PUBLISH_EVERY if tried.done else policy.PUBLISH_AGAIN)

    def _domains(self) -> list[str]:
        """Where the host has published."""
        with self._store.reading() as tx:
            return list(dict.fromkeys(one.domain for one in sql.published(tx, self._host)))

    def _own(self, domain: str) -> list[DnsRecord]:
        """What the host has, or may have, published in a domain, the newest first."""
        with self._store.reading() as tx:
            return [one for one in sql.published(tx, self._host) if one.domain == domain]

    # --- one domain -----------------------------------------------------------------------------------------

    def publish(self, record: DnsRecord, settings: KmshostSettings) -> Result:
        """Publish in one domain and say what came of it, also as an event."""
        with self._lock(record.domain):
            self._current = deadline = Deadline(DOMAIN_SECONDS)
            if self._ending.is_set():
                deadline.end()
            return self._note(record.domain, record.owner, *self._publish(record, settings, deadline))

    def _publish(self, record: DnsRecord, settings: KmshostSettings, deadline: Deadline) -> tuple[str, str]:
        if not record.target:
            return "dns-name-missing", ""
        key = dnskey.load(settings.dns_key_file)
        if isinstance(key, Refusal):
            return key.code, key.detail
        self._servers.pop(record.domain, None)
        try:
            own = self._own(record.domain)
            elsewhere = [one for one in own if _names(one) != _names(record)]
            server = self._server(record, settings, deadline)
            record = self._inside(record, server, deadline)
            mine = [one for one in own if one not in elsewhere]
            refusal, doubt = self._update(server, key, record, (mine, elsewhere), deadline)
            if refusal:  # what was published before stays: it may be the only way to this host
                return refusal.code, refusal.detail
            left = self._take_back(record.domain, key, settings, deadline)
        except VolactError as error:
            return error.refusal.code, error.refusal.detail
        kept = [f"{one.owner} {one.srv}" for one in left]
        remarks = [f"What was published before stays: {one}" for one in kept]
        with contextlib.suppress(Unreachable):
            others = dnsupdates.sharing(server, record, (), deadline)
            remarks += [_SHARED.format(one) for one in others if one not in kept]
        return OK, " ".join(part for part in (doubt, *remarks) if part)

    def _take_back(
        self, domain: str, key: Key, settings: KmshostSettings, deadline: Deadline
    ) -> list[DnsRecord]:
        """Withdraw what is published under other names than the newest record; what stays of it."""
        new, *before = self._own(domain)
        left = []
        for one in before:
            if (
                one.target == new.target
            ):  # what is to become of its addresses was decided with the newest record's
                one = one._replace(addresses=())  # noqa: PLW2901
            try:
                refusal = self._remove(self._server(one, settings, deadline), key, one, deadline)
            except Unreachable as error:
                refusal = error.refusal
            left += [one] if refusal else []
        if before:
            self._remember(domain, [new, *left])
        return left

    def _server(self, record: DnsRecord, settings: KmshostSettings, deadline: Deadline) -> Server:
        found = nameserver.find(record.owner, settings.dns_server, self._resolver, deadline)
        self._servers[record.domain] = found
        return found

    def _inside(self, record: DnsRecord, server: Server, deadline: Deadline) -> DnsRecord:
        """The record without its addresses where the name lies in another zone than the domain."""
        deeper = "." in record.target.removesuffix(f".{record.domain}")
        if not (record.addresses and deeper):
            return record
        zone = nameserver.zone_of(server.address, server.port, record.target, deadline)
        return record if zone == server.zone else record._replace(addresses=())

    def _update(
        self,
        server: Server,
        key: Key,
        new: DnsRecord,
        own: tuple[list[DnsRecord], list[DnsRecord]],
        deadline: Deadline,
    ) -> tuple[Refusal | None, str]:
        """Make the update and judge it: a refusal, or none and perhaps a remark.

        `own` is what the host has published under these names, and under others, which stays for now.
        """
        mine, left = own
        put_there = tuple(
            dict.fromkeys(
                address for one in (*mine, *left) if one.target == new.target for address in one.addresses
            )
        )
        reply, then, added = Reply(), new, frozenset[str]()
        for _ in range(_TRIES):
            there = nameserver.addresses(server, new.target, deadline) if new.addresses else ()
            change = dnsrecords.decide(new, put_there, there)
            if isinstance(change, Refusal):
                return change, ""
            then, added = new._replace(addresses=change.owned), frozenset(change.add)
            # Before the update: whichever the server has when this process dies, it is known as the host's own.
            self._remember(new.domain, [then, *[one for one in mine if one != then], *left])
            reply = nameserver.send(server, dnsupdates.publication(server, key, new, mine, change), deadline)
            if reply.refusal and not reply.doubtful:
                self._remember(new.domain, [*mine, *left])  # nothing was done
            if not reply.changed:
                break
        if reply.refusal and not reply.doubtful:
            return reply.refusal, ""
        if not self._served(server, new, added, deadline):
            return reply.refusal or Refusal("dns-not-served", f"{new.owner} {new.srv}"), ""
        self._remember(new.domain, [then, *left])
        return None, reply.refusal.detail if reply.refusal else ""

    def _served(self, server: Server, new: DnsRecord, added: frozenset[str], deadline: Deadline) -> bool:
        def there() -> bool:
            return new.srv in nameserver.served(server, new.owner, "SRV", deadline) and (
                not added or added <= nameserver.addresses(server, new.target, deadline)
            )

        return _eventually(there, deadline)

    # --- withdrawing ----------------------------------------------------------------------------------------

    def withdraw(self, domain: str, settings: KmshostSettings, deadline: Deadline) -> Result:
        """Take back exactly what the host has published in a domain; what came of it is an event, too (D2).

        Raises:
            VolactError: if the store cannot be read.
        """
        with self._lock(domain):
            own = self._own(domain)
            key = dnskey.load(settings.dns_key_file)
            refusal = key if isinstance(key, Refusal) else None
            if isinstance(key, Key):
                refusal = self._withdraw(own, key, settings, deadline)
            owner = own[0].owner if own else f"{settings.dns_label}.{domain}"
            code, detail = (refusal.code, refusal.detail) if refusal else (WITHDRAWN, "")
            return self._note(domain, owner, code, detail)

    def _withdraw(
        self, own: list[DnsRecord], key: Key, settings: KmshostSettings, deadline: Deadline
    ) -> Refusal | None:
        """Take back each; the last refusal."""
        refusal, left = None, list(own)
        for one in own:
            try:
                server = self._servers.get(one.domain) or self._server(one, settings, deadline)
                found = self._remove(server, key, one, deadline)
                if found is None:
                    left.remove(one)
                    self._remember(one.domain, left)
                refusal = found or refusal
            except VolactError as error:
                refusal = error.refusal
        return refusal

    def _remove(self, server: Server, key: Key, mine: DnsRecord, deadline: Deadline) -> Refusal | None:
        """Take a record out, and its addresses unless another host's record names them; why it stays, if it does.

        Raises:
            VolactError: if the server or the store does not say what there is.
        """
        labels = [one.label for one in self._own(mine.domain)]
        for left in range(_TRIES - 1, -1, -1):
            update, addresses = dnsupdates.removal(server, key, mine, labels, deadline, guarded=left > 0)
            reply = nameserver.send(server, update, deadline)
            if not reply.changed:
                break

        def gone() -> bool:
            return mine.srv not in nameserver.served(server, mine.owner, "SRV", deadline) and (
                not addresses or not set(addresses) & nameserver.addresses(server, mine.target, deadline)
            )

        clear = reply.refusal is not None and not reply.doubtful
        try:
            is_gone = gone() if clear else _eventually(gone, deadline)
        except Unreachable as error:
            return reply.refusal or error.refusal
        still = Refusal("dns-not-served", f"{mine.owner} {mine.srv} is still served.")
        return None if is_gone else reply.refusal or still

    def withdraw_all(self, settings: KmshostSettings, seconds: float = _STOP_SECONDS) -> list[Result]:
        """Take back everything, all domains at once, within so many seconds in all; a try that is under way is ended.

        Raises:
            VolactError: if the store cannot be read.
        """
        self._ending.set()
        deadline = Deadline(seconds)
        if self._current:
            self._current.end()
        found = self._domains()
        done: list[Result] = []

        def one(domain: str) -> None:
            with contextlib.suppress(VolactError):
                done.append(self.withdraw(domain, settings, deadline))

        threads = [threading.Thread(target=one, args=(domain,), daemon=True) for domain in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline.left()))
        return done

    # --- what is remembered ---------------------------------------------------------------------------------

    def _lock(self, domain: str) -> threading.Lock:
        return self._locks.setdefault(domain, threading.Lock())

    def _remember(self, domain: str, own: Sequence[DnsRecord]) -> None:
        """Keep what the host has, or may have, in a domain: the newest first, and no more than it is worth."""
        with self._store.writing() as tx:
            sql.put_published(tx, self._host, domain, list(own)[:_MOST_OWN], self._now())

    def _note(self, domain: str, owner: str, code: str, detail: str) -> Result:
        """Write down what came of it: an event in the store and the log, and the last result for those who ask."""
        server = self._servers.get(domain)
        where = f"{server.address} port {server.port}" if server else ""
        result = Result(domain, owner, code, printable(detail), where, self._now())
        self._report(result)
        with contextlib.suppress(VolactError), self._store.writing() as tx:
            sql.add_event(tx, result.event)
        with contextlib.suppress(OSError), self._writing:
            found = {one.domain: one for one in results(self._folder)} | {result.domain: result}
            note = json.dumps([one._asdict() for one in found.values()])
            write_durably(self._folder / _NOTE, note.encode(), PRIVATE)
        return result


class Service:
    """Publishes beside a running service, in a thread of its own: no name server delays an answer or the stop."""

    def __init__(self, publisher: Publisher) -> None:
        """Publish what `want` says last."""
        self._publisher = publisher
        self._wanted: tuple[KmshostSettings, int, bool] | None = None
        self._failures = Failures()
        self._beside = Beside(_WORK, _LOOK_SECONDS, self._look, self._failures)

    def start(self) -> None:
        """Begin to look for what is due."""
        self._beside.start()

    def want(self, settings: KmshostSettings, port: int, *, serving: bool) -> None:
        """Say what holds now: it is in DNS, or on its way, at the next look."""
        self._wanted = settings, port, serving

    def stop(self) -> None:
        """Look no more, and withdraw everything: in at most WITHDRAW_WITHIN seconds (D2)."""
        self._beside.stop()
        if self._wanted:
            try:
                self._publisher.withdraw_all(self._wanted[0])
            except VolactError as error:
                self._failures.say(_WORK, error)

    def _look(self) -> None:
        if self._wanted is not None:
            settings, port, serving = self._wanted
            self._publisher.look(settings, port, serving=serving)


_SHARED = "Another host's record has the same name ({}): set dns_name so that each host has one of its own."


def _names(record: DnsRecord) -> tuple[str, str]:
    return record.label, record.target


def _eventually(holds: Callable[[], bool], deadline: Deadline) -> bool:
    """Whether it holds now or within a moment."""
    for _ in range(_TRIES - 1):
        if holds():
            return True
        deadline.wait(_PAUSE)
    return holds()


def _state_of(path: str) -> object:
    """What changes when a key file is written anew."""
    try:
        found = Path(path).stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode) if found else None
