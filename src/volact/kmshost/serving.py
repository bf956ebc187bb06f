"""Runs the host as a service: one process, its HTTPS face, and the tick beside it.

Twice a second it takes up what commands have changed: intervals, port, delegation, products. A new port is listened on
before the old one is let go (K16); one that is taken is an event, and the old one goes on. A host that is not
activated, or whose delegation is over, serves and says so: it can be activated while it runs.
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
from volact.kmshost import listening, reporting, settings, setup
from volact.kmshost import store as sql
from volact.kmshost.api import Face
from volact.kmshost.kmshost import Intervals, KmsHost
from volact.protocol import policy
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
    problem = settings.problem_of(found)
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
    refusal = error.refusal if isinstance(error, VolactError) else Refusal("usage", str(error))
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
        self._warned = 0
        self._held, keyring = self._read()
        self._newest = keyring.newest if keyring else None
        self._host = KmsHost(
            opened.clock,
            opened.store,
            keyring,
            secrets.token_bytes,
            _intervals(opened.settings),
            write_events if opened.settings.log_level in ("debug", "info") else lambda _events: None,
            self._tls,
            lambda text: _log.warning("clock", problem=text),
        )
        self._face = Face(self._host)
        self._service = http.Service(self._face.app(), *pair)
        self._stopping = asyncio.Event()

    async def serve(self, listener: socket.socket, say: Callable[[str, int], None]) -> None:
        """Serve from `listener` on until the process is told to stop."""
        self._listening = listener.getsockname()[1]
        await asyncio.to_thread(self._host.start)
        ticking = asyncio.create_task(self._tick())

        async def ready() -> None:
            opened = self._opened
            _log.info(
                "serving",
                store=db.describe(opened.store.engine),
                publisher=opened.publisher.pub,
                host=opened.signer.kid,
                port=self._listening,
            )
            await asyncio.to_thread(self._note)
            say(self._address, self._listening)

        try:
            await self._service.run(listener, ready)
        finally:
            self._stopping.set()
            await ticking
            await asyncio.to_thread(listening.forget, self._opened.folder)
            await self._face.close()
        _log.info("stopped")

    async def _tick(self) -> None:
        for look in itertools.count(1):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_SECONDS)
            if self._stopping.is_set():
                return
            works = [self._take_up, self._move]
            if look % _LOOKS_A_CLEANING == 0:
                works.append(self._keep_house)
            for work in works:
                try:
                    await work()
                except Exception as error:  # noqa: BLE001 - a full disk now must not stop the looks after it
                    http.refusal_of(error)

    async def _keep_house(self) -> None:
        await asyncio.to_thread(self._host.expire)
        await asyncio.to_thread(self._opened.store.checkpoint)
        self._warn_of_end(self._host.clock.now())

    def _warn_of_end(self, now: int) -> None:
        """Say long before the delegation ends that it has to be extended: at 50, 75 and 90 percent, and at its end (K9)."""
        if self._newest is None:
            return
        iat, end = self._newest.iat, self._newest["exp"]
        stage = reporting.stage(iat, end, now)
        if stage > self._warned:
            _log.warning("delegation", problem=reporting.delegation_warning(iat, end, now))
        self._warned = stage

    # --- what commands have changed -----------------------------------------------------------------------

    def _read(self) -> tuple[_Held, Keyring | None]:
        """What the host holds now, and the keyring of it."""
        signer = self._opened.signer
        with self._opened.store.reading() as tx:
            return _held(tx, signer.kid), setup.load_keyring(tx, signer)

    async def _take_up(self) -> None:
        found = await asyncio.to_thread(self._settings_now)
        held = await asyncio.to_thread(self._held_now)
        if found == self._settings and held == self._held:
            return
        keyring = (await asyncio.to_thread(self._read))[1]
        lab = bool(keyring and keyring.roots.lab)

        def change() -> None:
            self._host.clock = clock_for(self._opened.environ, lab=lab)
            self._host.use(keyring=keyring, intervals=_intervals(found), tls=self._tls)

        await self._face.between(change)
        self._settings, self._held = found, held
        self._newest = keyring.newest if keyring else None

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
            self._port = wanted
            return
        try:
            listener = http.bind(self._address, wanted)
        except VolactError as error:
            if wanted != self._refused_port:  # once; it is tried again each second
                where = _place(self._address, wanted)
                await asyncio.to_thread(_could_not, self._opened, error, where, "could not move")
            self._refused_port = wanted
            return
        await self._service.listen(listener)
        _log.info("moved", port=wanted, before=self._listening)
        self._port = self._listening = wanted
        self._refused_port = 0
        await asyncio.to_thread(self._note)

    def _note(self) -> None:
        """Write down where it listens, for the commands that tell."""
        try:
            listening.note(self._opened.folder, self._address, self._listening)
        except OSError as error:  # a full disk: what it is there for is to answer
            _log.warning("note", problem=f"{error.strerror}: commands cannot tell the port")


_Held = tuple[object, ...]


def _held(tx: Connection, host: str) -> _Held:
    """What tells whether a command has changed what the host signs with."""
    publisher = sql.publisher(tx)
    return (
        publisher,
        *[row.jti for row in sql.delegations(tx, host)],
        *[(one.prd, one.ver) for one in sql.products(tx)],
    )


def _intervals(found: KmshostSettings) -> Intervals:
    return Intervals(
        found.renewal_minutes * policy.MINUTE or None, found.retry_minutes * policy.MINUTE or None
    )
