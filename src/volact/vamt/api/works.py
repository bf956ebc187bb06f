"""Undertakings of the service: what takes longer than an answer may, each in a thread of its own (V2, V5, V6).

- A person who may not do it is refused at once, and so is a selection that holds nothing; the rest is told row by row.
- What is stopped ends between two rows or batches: what came out until then is kept, as with Ctrl-C in a command.
- They are known as long as the service runs. What was done is in the log and the store, also after a restart.
- A few run at a time; the next ones wait for their turn, and of those only so many.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from volact import http
from volact.protocol import ids
from volact.protocol.problems import Refusal, Refused
from volact.vamt import people

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from volact.clock import Clock
    from volact.vamt.acting import Office
    from volact.vamt.people import Person

WAITING, RUNNING, DONE, STOPPED, FAILED = "waiting", "running", "done", "stopped", "failed"
STATES = (WAITING, RUNNING, DONE, STOPPED, FAILED)
AT_ONCE, MOST_WAITING, MOST_KEPT = 4, 32, 200
_ID_BYTES = 16
_Result = TypeVar("_Result")


class Stopped(BaseException):
    """Somebody stopped it: no error, and like Ctrl-C nothing that may be caught as one."""


class Told(NamedTuple):
    """What the rows of a page are, and how many there are in all."""

    total: int
    rows: list[dict[str, Any]]


class File(NamedTuple):
    """What an undertaking wrote: under which name it is handed out, its kind, and where it is."""

    name: str
    kind: str
    path: Path


class Work:
    """One undertaking; its thread tells here how far it is.

    Attributes:
        id: its name outside.
        what: the action, a name of `people.LEAST`.
        said: what it is about, as JSON.
        who: the person's name.
        at, began, ended: when it was asked for, begun and over, seconds UTC.
        state: one of `STATES`.
        done, failed, total: rows; the total is None as long as it is not known.
        result: what it came to, as JSON; None until it is over.
        refusal: why it failed; None if it did not.
        file: what it wrote to be fetched; None if nothing.
    """

    def __init__(self, name: str, what: str, said: Mapping[str, Any], who: str, at: int) -> None:
        """It waits for its turn."""
        self.id, self.what, self.said, self.who, self.at = name, what, dict(said), who, at
        self.state = WAITING
        self.began: int | None = None
        self.ended: int | None = None
        self.done = self.failed = 0
        self.total: int | None = None
        self.result: dict[str, Any] | None = None
        self.refusal: Refusal | None = None
        self.file: File | None = None
        self._rows: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._cancel: Callable[[], object] | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however."""
        return self.state in (DONE, STOPPED, FAILED)

    def tell(self, done: int, total: int | None, failed: int = 0) -> None:
        """Say how far it is.

        Raises:
            Stopped: if it is to stop.
        """
        self.done, self.total, self.failed = done, total, failed
        self.check()

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Say what became of rows."""
        with self._lock:
            self._rows += rows

    def rows(self, offset: int, limit: int) -> Told:
        """A page of what became of rows."""
        with self._lock:
            return Told(len(self._rows), self._rows[offset : offset + limit])

    def check(self) -> None:
        """See whether it is to stop.

        Raises:
            Stopped: if so.
        """
        if self._stopping.is_set():
            raise Stopped

    def stop(self) -> None:
        """Let it end soon."""
        with self._lock:
            self._stopping.set()
            # Inside: its loop is not closed as long as this is set, and it only leaves a note there.
            if self._cancel:
                self._cancel()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do asynchronous work in this thread, until it is done or stopped.

        Raises:
            Stopped: if it was stopped.
        """
        try:
            return asyncio.run(self._cancellable(work))
        except asyncio.CancelledError:
            raise Stopped from None

    async def _cancellable(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel() -> None:
            loop.call_soon_threadsafe(task.cancel if task else loop.stop)

        with self._lock:
            is_stopping = self._stopping.is_set()
            self._cancel = None if is_stopping else cancel
        if is_stopping:
            work.close()
            raise Stopped
        try:
            return await work
        finally:
            with self._lock:
                self._cancel = None


class Works:
    """The undertakings of a service."""

    def __init__(self, office: Office, random_bytes: Callable[[int], bytes]) -> None:
        """Work in `office`; undertakings are named by `random_bytes`."""
        self._office = office
        self._clock: Clock = office.clock
        self._random_bytes = random_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="volact-vamt-")
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="undertaking")
        self._works: OrderedDict[str, Work] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def start(
        self, person: Person, what: str, said: Mapping[str, Any], run: Callable[[Work], dict[str, Any]]
    ) -> Work:
        """Begin an undertaking: `run` does it and answers what it came to; it is logged by what it calls.

        Raises:
            Refused: `role-insufficient`, which is in the log; `busy` if too many wait already.
        """
        self.permit(person, what, said)
        name = ids.b64u(self._random_bytes(_ID_BYTES))
        work = Work(name, what, said, person.name, self._clock.now())
        with self._lock:
            waiting = sum(not one.is_over for one in self._works.values())
            if self._closed or waiting >= AT_ONCE + MOST_WAITING:
                raise Refused(Refusal("busy", "As many undertakings as may be are waiting already."))
            self._works[name] = work
            self._forget()
            self._threads.submit(self._do, work, run)
        return work

    def permit(self, person: Person, what: str, said: Mapping[str, Any]) -> None:
        """See to it that a person may do something; a no is in the log.

        Raises:
            Refused: `role-insufficient`.
        """
        if not people.may(person.role, what):
            with self._office.acting(person, what, said):
                pass

    def _forget(self) -> None:
        """Forget the oldest of those that are over."""
        over = [one for one in self._works.values() if one.is_over]
        for one in over[: max(0, len(self._works) - MOST_KEPT)]:
            del self._works[one.id]
            if one.file:
                one.file.path.unlink(missing_ok=True)

    def _do(self, work: Work, run: Callable[[Work], dict[str, Any]]) -> None:
        try:
            work.check()
            work.state, work.began = RUNNING, self._clock.now()
            work.result = run(work)
        except Stopped:
            state = STOPPED
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is this undertaking's end and nobody else's
            work.refusal = http.refusal_of(error)
            state = FAILED
        else:
            state = DONE
        work.ended = self._clock.now()
        work.state = state

    def get(self, person: Person, name: str) -> Work:
        """An undertaking by its id.

        Raises:
            Refused: `undertaking-unknown`.
        """
        self._office.look(person)
        with self._lock:
            found = self._works.get(name)
        if found is None:
            raise Refused(Refusal("undertaking-unknown", f"{name[:40]!r}."))
        return found

    def list(self, person: Person) -> list[Work]:
        """The undertakings that are known, the newest first."""
        self._office.look(person)
        with self._lock:
            return list(reversed(self._works.values()))

    def stop(self, person: Person, name: str) -> Work:
        """Let an undertaking end soon, what came out until then being kept; whoever may begin it may stop it.

        Raises:
            Refused: `undertaking-unknown`, `role-insufficient`.
        """
        work = self.get(person, name)
        with self._office.acting(person, work.what, {"stop": work.id}):
            work.stop()
        return work

    def finished(self, person: Person, name: str) -> File:
        """What an undertaking wrote; whoever may begin it may fetch that: a list's requests are proved with keys.

        Raises:
            Refused: `undertaking-unknown`, `role-insufficient`, `undertaking-running`, or `not-found` if it wrote nothing.
        """
        work = self.get(person, name)
        self.permit(person, work.what, {"fetch": work.id})
        if not work.is_over:
            raise Refused(Refusal("undertaking-running"))
        if work.file is None:
            raise Refused(Refusal("not-found", "The undertaking wrote no file."))
        return work.file

    @contextmanager
    def writing(self, work: Work, name: str, kind: str) -> Iterator[BinaryIO]:
        """A file that the undertaking hands out once it was written well."""
        path = Path(self._folder.name) / work.id
        with path.open("wb") as file:
            yield file
        work.file = File(name, kind, path)

    def close(self) -> None:
        """Stop them all, and wait until what is on its way has ended."""
        with self._lock:
            self._closed = True
            left = [one for one in self._works.values() if not one.is_over]
        for one in left:
            one.stop()
        self._threads.shutdown(wait=True)
        self._folder.cleanup()
