"""Runs VAMT as a service: one process, its HTTPS API, its undertakings, and the tick beside them (V6).

- One process serves a folder: a second one would do scheduled work twice.
- What is due is looked for every second in a thread of its own, so that a long one holds up no answer; what fails is said
  and tried again at the next look.
- To stop, no more is taken; what is on its way to a machine or an authority is waited for, and its rows are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import secrets
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from volact import certificate, db, http
from volact.protocol.problems import Refusal, Refused, UsageError, VolactError
from volact.vamt import actionrecords
from volact.vamt.api.app import Api, own_names
from volact.vamt.api.desk import ApiDesk
from volact.vamt.api.works import Stopped, Work, Works

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from pathlib import Path

    from volact.vamt.sealing import Sealer
    from volact.vamt.setup import Opened

_SECOND, _MINUTE = 1.0, 60.0
_DUE_EVERY = 5.0
_Result = TypeVar("_Result")
_LOCK = "serving.lock"

_log = structlog.get_logger()


def place(opened: Opened, listen: str, port: int | None) -> tuple[str, int]:
    """Where to listen: as commanded, else as set; with `port` in place of the port.

    Raises:
        UsageError: if that is no place.
    """
    host, usual = http.listen_on(listen or opened.settings.listen)
    if port is None:
        return host, usual
    if listen:
        raise UsageError("--listen says the port, too.", "Leave --port out.")
    return http.listen_on(f"{host}:{port}")


def serve(
    opened: Opened, at: tuple[str, int], sealer: Sealer | None, say: Callable[[str, int], None]
) -> None:
    """Serve until SIGTERM or SIGINT; `sealer` opens what is sealed, if its passphrase was given.

    `say` is called with host and real port when requests are taken.

    Raises:
        Refused: `in-use` if another process serves this VAMT.
        BrokenData: `port-taken`, or a certificate that cannot be used.
    """
    http.log_to_stderr(opened.settings.log_level)
    pair = opened.certificate()
    certificate.check(*pair)
    with alone(opened.folder):
        listener = http.bind(*at)
        try:
            asyncio.run(_serve(opened, sealer, at[0], listener, say))
        finally:
            listener.close()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Let no other process serve this folder.

    Raises:
        Refused: `in-use`.
    """
    with (folder / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(Refusal("in-use", "Another process serves this VAMT.")) from None
        yield


async def _serve(
    opened: Opened, sealer: Sealer | None, host: str, listener: socket.socket, say: Callable[[str, int], None]
) -> None:
    port = listener.getsockname()[1]
    vamt = opened.vamt()
    works = Works(vamt.office, secrets.token_bytes)
    desk = ApiDesk(opened, vamt, works, sealer)
    api = Api(desk, own_names(opened.settings.names))
    due = Due(desk)
    ticking = [
        Ticking("store", _SECOND, [opened.store.checkpoint]),
        Ticking("answers", _MINUTE, [api.repeats.forget]),
        Ticking("due", _DUE_EVERY, [due.queue, due.schedules]),
    ]

    async def ready() -> None:
        _log.info("serving", store=db.describe(opened.store.engine), fingerprint=opened.signer.kid)
        for one in ticking:
            one.start()
        say(host, port)

    try:
        await http.serve(api, listener, *opened.certificate(), ready)
    finally:
        due.stop()
        for one in ticking:
            await asyncio.to_thread(one.stop)
        await asyncio.to_thread(works.close)
    _log.info("stopped")


class Due:
    """What waits in the queue and stands in schedules, done when it is due (V2, V5)."""

    def __init__(self, desk: ApiDesk) -> None:
        """Do it with `desk`."""
        self._desk = desk
        self._work = Work("", "schedule", {}, "", 0)

    def queue(self) -> None:
        """Try the rows that are due, each for the person who began it."""
        vamt, now = self._desk.vamt, self._desk.vamt.office.clock.now()
        with vamt.office.store.reading() as tx:
            is_due = bool(actionrecords.queued(tx, now))
        if is_due:
            done = self._run(vamt.queue.run_due(now, self._desk.means()))
            _log.info("queue", rows=len(done))

    def schedules(self) -> None:
        """Do the schedules that are due, each for the person who made it."""
        vamt, now = self._desk.vamt, self._desk.vamt.office.clock.now()
        with vamt.office.store.reading() as tx:
            is_due = bool(actionrecords.schedules(tx, now))
        if is_due:
            for one in self._run(vamt.schedules.run_due(now, self._desk.means())):
                _log.info("schedule", name=one.name, result=one.result, detail=one.detail)

    def _run(self, work: Coroutine[Any, Any, Sequence[_Result]]) -> Sequence[_Result]:
        try:
            return self._work.run(work)
        except Stopped:
            return ()  # what was done is kept; the rest is due at the next start

    def stop(self) -> None:
        """Let what is being done end soon, and begin nothing more."""
        self._work.stop()


class Ticking:
    """Does some work again and again, beside the service."""

    def __init__(self, name: str, seconds: float, works: Sequence[Callable[[], None]]) -> None:
        """Do `works`, one after the other, every so many seconds."""
        self._seconds, self._works = seconds, works
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._said: dict[str, str] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for what is being done."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            for work in self._works:
                self.do(work)

    def do(self, work: Callable[[], None]) -> None:
        """Do it once; what fails is said once, not at every look, and tried again at the next."""
        name = work.__name__
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a full disk now must not stop the looks after it
            refusal = error.refusal if isinstance(error, VolactError) else None
            said = str(refusal) if refusal else type(error).__name__
            if self._said.get(name) != said:
                refusal = refusal or http.refusal_of(error)
                _log.error("tick", work=name, code=refusal.code, detail=refusal.detail)
            self._said[name] = said
        else:
            self._said.pop(name, None)
