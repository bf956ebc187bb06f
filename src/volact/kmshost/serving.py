"""Runs the host as a service: one process, its HTTPS face, and the tick beside it.

Twice a second it takes up what commands have changed: intervals, port, delegation, products. A new port is listened on
before the old one is let go (K16), and one that is just being let go is taken up again; one that is taken is an event,
and the old one goes on. A host that is not activated, or whose delegation is over, serves and says so: it can be
activated while it runs. What does not succeed is tried at each look and said once, until it is something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import sys
from typing import TYPE_CHECKING

import msgspec
import structlog

from volact import certificate, db, http
from volact.clock import clock_for
from volact.config import SettingInvalid
from volact.kmshost import dnskey, listening, publishing, reporting, settings, setup, statuslist
from volact.kmshost import store as sql
from volact.kmshost.admission import Limits
from volact.kmshost.api import Face
from volact.kmshost.beside import Beside, Failures
from volact.kmshost.foresight import Foresight
from volact.kmshost.kmshost import KmsHost
from volact.kmshost.metrics import Metrics
from volact.kmshost.operations import Operations, Watched
from volact.kmshost.priority import Priority
from volact.kmshost.terms import Terms, intervals_of
from volact.kmshost.upkeep import Upkeep
from volact.protocol.problems import Refusal, VolactError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from volact.config import KmshostSettings
    from volact.kmshost.keyring import Keyring
    from volact.kmshost.setup import Opened
    from volact.kmshost.store import Event

_LOOK_SECONDS = 0.5
"""So that what a command has written is in force within a second."""
_LOOKS_A_CLEANING = 2
_UPKEEP_SECONDS = 5.0
_FORESEE_SECONDS = 1.0
_REST_TIMES = 9.0
"""A look at the whole ledger takes at most a tenth of the time."""
_encode = msgspec.json.Encoder().encode

_log = structlog.get_logger()


def run(listen: str, say: Callable[[str, int], None]) -> None:
    """Serve until SIGTERM or SIGINT; `say` is called with host and real port when requests are taken.

    Raises:
        VolactError: why it could not start, which is event 12291 in the log and, where possible, in the store.
    """
    http.log_to_stderr("info")  # until the settings are known
    opened: Opened | None = None
    where = ""
    try:
        with setup.opened() as opened:
            http.log_to_stderr(opened.settings.log_level)
            host, port = _where(opened, listen)
            where = _place(host, port)
            listener = http.bind(host, port)
            try:
                asyncio.run(_Service(opened, host).serve(listener, say))
            except Exception:
                listener.close()
                raise
    except (VolactError, SettingInvalid) as error:
        _could_not(opened, error, where)
        raise


def _where(opened: Opened, listen: str) -> tuple[str, int]:
    found = opened.settings
    problem = settings.problem_of(found) or dnskey.problem_of(found)
    if problem:
        raise SettingInvalid(problem)
    return (
        http.listen_on(listen) if listen else (found.listen.removeprefix("[").removesuffix("]"), found.port)
    )


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _could_not(
    opened: Opened | None, error: VolactError | SettingInvalid, where: str, what: str = "could not start"
) -> None:
    refusal = error.refusal if isinstance(error, VolactError) else Refusal("setting-invalid", str(error))
    store, now = (opened.store, opened.clock.now()) if opened else (None, 0)
    reporting.not_started(store, now, refusal, where, what)


def write_events(events: Sequence[Event]) -> None:
    """The events of a batch as lines of JSON on standard error, in one write: a line each costs the writer a third."""
    lines = [{"event_id": one.event, **one._asdict(), "event": "request handled"} for one in events]
    with contextlib.suppress(OSError):  # nobody reads: the rows are in the store
        sys.stderr.buffer.write(b"".join(_encode(line) + b"\n" for line in lines))
        sys.stderr.buffer.flush()


class _Service:
    """The face, the role behind it, and the tick."""

    def __init__(self, opened: Opened, address: str) -> None:
        pair = opened.certificate()
        certificate.check(*pair)
        self._opened = opened
        self._address = address
        self._tls = [certificate.digest(pair[0])]
        self._settings = opened.settings
        self._said = ""
        self._port = opened.settings.port
        self._refused_port = 0
        self._noted: tuple[int, frozenset[int]] | None = None
        self._failures = Failures()
        self._warned = 0
        self._held, self._keyring, self._blocks = self._read()
        self._host = KmsHost(
            opened.clock,
            opened.store,
            self._terms(self._keyring, opened.settings),
            secrets.token_bytes,
            self._report,
            lambda text: _log.warning("clock", problem=text),
        )
        self._foresight = Foresight(
            opened.store, lambda event: self._metrics.happened([event]), rest=self._rest
        )
        self._foreseeing = Beside("forecast", _FORESEE_SECONDS, self._foresee)
        self._metrics = Metrics(self._foresight)
        self._operations = Operations(
            Watched(
                opened.store,
                opened.signer.kid,
                lambda: self._host.clock,
                lambda: self._keyring,
                lambda: self._host.clock_doubted,
                lambda: self._host.store_problem,
                lambda: self._said,
            ),
            self._metrics,
        )
        self._face = Face(self._host, self._metrics.measured(self._host.answer))
        self._face.serve_only(settings.networks(opened.settings))
        self._service = http.Service(self._face.app(), *pair)
        publisher = publishing.Publisher(
            opened.store,
            opened.signer.kid,
            opened.folder,
            lambda: self._host.clock.now(),  # noqa: PLW0108 - the clock is replaced when a laboratory is met
            report=self._report_published,
        )
        self._publishing = publishing.Service(publisher)
        upkeep = Upkeep(opened, lambda: self._keyring)
        self._keeping_up = Beside("upkeep", _UPKEEP_SECONDS, lambda: upkeep.work(self._host.clock.now()))
        self._priority = Priority()
        self._stopping = asyncio.Event()

    def _report(self, events: Sequence[Event]) -> None:
        """The events of a batch, to the metrics and the log."""
        self._metrics.happened(events)
        if self._opened.settings.log_level in ("debug", "info"):
            write_events(events)

    async def serve(self, listener: socket.socket, say: Callable[[str, int], None]) -> None:
        """Serve from `listener` on until the process is told to stop."""
        self._listening = listener.getsockname()[1]
        self._since = self._host.clock.now()
        await asyncio.to_thread(self._host.start)
        ticking = asyncio.create_task(self._tick())
        withdrawing = asyncio.create_task(self._withdraw())

        async def ready() -> None:
            opened = self._opened
            _log.info(
                "serving",
                store=db.describe(opened.store.engine),
                publisher=opened.publisher.pub,
                host=opened.signer.kid,
                port=self._listening,
            )
            await self._note_ports()
            await self._prioritise()
            self._publishing.start()
            self._keeping_up.start()
            self._foreseeing.start()
            say(self._address, self._listening)

        try:
            await self._service.run(listener, ready)
        finally:
            self._stopping.set()
            self._keeping_up.stop()
            self._foreseeing.stop()
            await ticking
            await withdrawing
            await self._operations.close()
            await asyncio.to_thread(listening.forget, self._opened.folder)
            await self._face.close()
        _log.info("stopped")

    async def _tick(self) -> None:
        for look in itertools.count(1):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_SECONDS)
            if self._stopping.is_set():
                return
            works = [self._take_up, self._take_up_documents, self._move, self._note_ports, self._operate]
            works += [self._publish, self._prioritise]
            if look % _LOOKS_A_CLEANING == 0:
                works.append(self._keep_house)
            for work in works:
                name = work.__name__.strip("_")
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - a full disk now must not stop the looks after it
                    self._failures.say(name, error)
                else:
                    self._failures.forget(name)

    async def _keep_house(self) -> None:
        await asyncio.to_thread(self._host.expire)
        await asyncio.to_thread(self._opened.store.checkpoint)
        self._warn_of_end(self._host.clock.now())

    async def _prioritise(self) -> None:
        """Run at the priority that is set (rule S)."""
        problem = self._priority.use(low=self._settings.low_priority)
        if problem:
            _log.warning("priority", problem=problem)

    async def _operate(self) -> None:
        await self._operations.listen_as(self._settings.ops_listen)

    def _rest(self, seconds: float) -> None:
        """Leave the processor to who answers machines, after work that took so many seconds."""
        self._foreseeing.wait(seconds * _REST_TIMES)

    def _foresee(self) -> None:
        """Look ahead, as long as the clock is to be believed; a laboratory's is moved on purpose (K15)."""
        host, lab = self._host, bool(self._keyring and self._keyring.roots.lab)
        if host.clock_doubted or (host.clock_jumped and not lab):
            return
        now, intervals = host.clock.now(), intervals_of(self._settings)
        self._foresight.look(self._keyring, intervals, now, min(self._since, now))

    def _warn_of_end(self, now: int) -> None:
        """Say long before the delegation ends that it has to be extended: at 50, 75 and 90 percent, and at its end (K9)."""
        newest = self._keyring.newest if self._keyring else None
        if newest is None:
            return
        iat, end = newest.iat, newest["exp"]
        stage = reporting.stage(iat, end, now)
        if stage > self._warned:
            _log.warning("delegation", problem=reporting.delegation_warning(iat, end, now))
        self._warned = stage

    # --- what commands have changed -----------------------------------------------------------------------

    def _read(self) -> tuple[_Held, Keyring | None, statuslist.Held]:
        """What the host holds now: the keyring of it, and the publisher's list."""
        signer = self._opened.signer
        with self._opened.store.reading() as tx:
            return _held(tx, signer.kid), setup.load_keyring(tx, signer), statuslist.held(tx)

    async def _take_up(self) -> None:
        """The settings; they do not wait for documents that may be broken."""
        found = await asyncio.to_thread(self._settings_now)
        if found != self._settings:
            await self._face.between(lambda: self._use(self._keyring, found))
            self._settings = found

    async def _take_up_documents(self) -> None:
        held = await asyncio.to_thread(self._held_now)
        if held == self._held:
            return
        held, keyring, self._blocks = await asyncio.to_thread(self._read)
        await self._face.between(lambda: self._use(keyring, self._settings))
        self._held, self._keyring = held, keyring

    def _use(self, keyring: Keyring | None, found: KmshostSettings) -> None:
        self._host.clock = clock_for(self._opened.environ, lab=bool(keyring and keyring.roots.lab))
        self._host.use(self._terms(keyring, found))
        self._face.serve_only(settings.networks(found))

    def _terms(self, keyring: Keyring | None, found: KmshostSettings) -> Terms:
        limits = Limits(found.source_rate, found.source_burst, found.record_cap)
        return Terms(keyring, intervals_of(found), tuple(self._tls), limits, self._blocks)

    def _held_now(self) -> _Held:
        with self._opened.store.reading() as tx:
            return _held(tx, self._opened.signer.kid)

    def _settings_now(self) -> KmshostSettings:
        """The settings as they are now; those that held before as long as one is wrong."""
        try:
            found = self._opened.settings_now()
            problem = settings.problem_of(found)
        except SettingInvalid as error:
            problem = str(error)
        if problem and problem != self._said:  # once, not every second
            _log.error("settings", problem=problem)
        self._said = problem
        return self._settings if problem else found

    async def _move(self) -> None:
        """Listen on the port that is set now; if that is not to be had, go on where it is (K16)."""
        wanted = self._settings.port
        if wanted in (self._port, self._listening, 0):
            self._port, self._refused_port = wanted, 0
            return
        if not self._service.return_to(wanted):
            if wanted in self._service.leaving():
                return  # its last answers are on their way; the next look has it
            try:
                listener = http.bind(self._address, wanted)
            except VolactError as error:
                await self._say_refused(wanted, error)
                return
            await self._service.listen(listener)
        _log.info("moved", port=wanted, before=self._listening)
        self._port = self._listening = wanted
        self._refused_port = 0

    async def _say_refused(self, wanted: int, error: VolactError) -> None:
        """An event and a line, once as long as the same port is wanted; it is tried again at each look."""
        if wanted != self._refused_port:
            where = _place(self._address, wanted)
            await asyncio.to_thread(_could_not, self._opened, error, where, "could not move")
        self._refused_port = wanted

    async def _publish(self) -> None:
        """Let what holds now be published, from the host's activation on (D1); the work is done beside this."""
        activated = self._keyring is not None and self._keyring.newest is not None
        found = self._settings._replace(listen=self._address)
        self._publishing.want(found, self._listening, serving=activated)

    def _report_published(self, result: publishing.Result) -> None:
        publishing.log(result)
        self._metrics.happened([result.event])

    async def _withdraw(self) -> None:
        """Withdraw what is published as soon as the service is to stop (D2)."""
        await self._service.until_stopping()
        await asyncio.to_thread(self._publishing.stop)

    async def _note_ports(self) -> None:
        """Write down where it listens, for the commands that tell, whenever that has changed."""
        here = self._listening, self._service.leaving()
        if here != self._noted:
            self._noted = here  # once, also on a full disk: what the service is there for is to answer
            await asyncio.to_thread(self._note, *here)

    def _note(self, port: int, leaving: frozenset[int]) -> None:
        try:
            listening.note(self._opened.folder, self._address, port, leaving)
        except OSError as error:
            _log.warning("note", problem=f"{error.strerror}: commands cannot tell the port")


_Held = tuple[object, ...]


def _held(tx: Connection, host: str) -> _Held:
    """What tells whether a command has changed what the host signs with."""
    publisher = sql.publisher(tx)
    return (
        publisher,
        sql.hosts(tx),
        statuslist.pair(tx),
        *[row.jti for row in sql.delegations(tx, host)],
        *[(one.prd, one.ver) for one in sql.products(tx)],
    )
