"""What runs a host looks at it here: `/health` and `/metrics` on a loopback listener of their own (DESIGN section 2).

`GET /health`
    200 ``{"status": "ok", "checks": {...}}``, or 503 with ``"failing"``: some machine would be refused now for a
    reason that lies with the host. Each check says `ok` and what it saw.
`GET /metrics`
    Prometheus' text format; docs/operations.md lists what there is.

- Nothing of it is on the port that machines call, and the listener takes loopback addresses alone: what it tells is for
  those who can log in here. A name other than loopback's is refused, so that no page in a browser here can be made to
  read it under a name of its own.
- The store is asked at most once in two seconds, however many ask, and an answer waits five seconds for it at most.
- A listener that cannot be had stops nothing: it is said once, and tried again at each look.
"""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from volact import http
from volact.commands import when
from volact.kmshost import reporting, settings, surveys
from volact.kmshost.metrics import View
from volact.protocol.policy import STATUS_LIST_DUE
from volact.protocol.problems import PROBLEMS, Refusal, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable

    from volact.clock import Clock
    from volact.http import App, Receive, Scope, Send
    from volact.kmshost.keyring import Keyring
    from volact.kmshost.metrics import Metrics
    from volact.kmshost.store import Store

_FRESH = 2.0
_PATIENCE = 5.0
_TEXT = [(b"content-type", CONTENT_TYPE_PLAIN_0_0_4.encode("ascii")), (b"cache-control", b"no-store")]

_log = structlog.get_logger()


# --- health -----------------------------------------------------------------------------------------------------


def health(view: View) -> dict[str, Any]:
    """What `/health` answers, as JSON-ready members; append-only."""
    checks = {
        "store": {"ok": view.store_up, "problem": view.problem or None},
        "activated": _activated(view),
        "clock": _clock(view),
        "delegation": _delegation(view),
        "status_list": _status_list(view),
        # The service goes on with those it had; whoever restarts it for that would find that it does not start.
        "settings": {"ok": True, "warning": view.settings or None},
    }
    failing = not all(one["ok"] for one in checks.values())
    return {
        "status": "failing" if failing else "ok",
        "time": when(view.now),
        "host": view.host,
        "checks": checks,
    }


def _activated(view: View) -> dict[str, Any]:
    newest = view.keyring.newest if view.keyring else None
    return {"ok": newest is not None, "products": sorted(newest["prd"]) if newest else []}


def _clock(view: View) -> dict[str, Any]:
    """Behind what the publisher signed it signs nothing; doubted by the machines it warns and goes on (PROTOCOL 8)."""
    behind = view.keyring is not None and view.keyring.is_behind(view.now)
    return {"ok": not behind, "behind": behind, "doubted": view.doubted}


def _delegation(view: View) -> dict[str, Any]:
    newest = view.keyring.newest if view.keyring else None
    if newest is None:
        return {"ok": False, "until": None, "used_percent": None, "warning": None}
    iat, end = newest.iat, newest["exp"]
    return {
        "ok": view.now <= end,
        "until": when(end),
        "used_percent": reporting.used_percent(iat, end, view.now),
        "warning": reporting.delegation_warning(iat, end, view.now) or None,
    }


def _status_list(view: View) -> dict[str, Any]:
    """Without a list, or with an old one, a host goes on; what was blocked lately is not obeyed (F42)."""
    at = view.facts.list_fetched if view.facts else None
    age = None if at is None else max(0, view.now - at)
    old = age is not None and age > STATUS_LIST_DUE
    warning = "The status list is old: is the authority reached?" if old else None
    return {"ok": True, "age": age, "warning": warning}


# --- the listener -----------------------------------------------------------------------------------------------


class Watched(NamedTuple):
    """Where the operations look: the store, the host's id, and what is true of it at that moment.

    `failed` is the code for which the newest check-ins could not be recorded, or empty; `settings` says what is wrong with
    the settings.
    """

    books: Store
    host: str
    clock: Callable[[], Clock]
    keyring: Callable[[], Keyring | None]
    doubted: Callable[[], bool]
    failed: Callable[[], str] = str
    settings: Callable[[], str] = str


class Operations:
    """The loopback face of one serving process."""

    def __init__(
        self, watched: Watched, metrics: Metrics, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """Tell of `watched` and of `metrics`; listen nowhere yet."""
        self._watched = watched
        self._metrics = metrics
        self._timer = timer
        self._thread = ThreadPoolExecutor(1, "operations")
        self._asked: tuple[float, asyncio.Future[surveys.Facts | str]] | None = None
        self._service: http.Service | None = None
        self._place = ""
        self._said = ""

    async def listen_as(self, setting: str) -> None:
        """Listen where the setting says, `HOST:PORT`, or nowhere if it is empty; what cannot be had is said once."""
        if setting == self._place:
            return
        try:
            listener = http.bind(*settings.ops_place(setting)) if setting else None
        except VolactError as error:
            if self._said != setting:
                _log.error("operations", problem=error.refusal.detail, listen=setting)
            self._said = setting
            return
        before, self._service = self._service, None
        self._place, self._said = setting, ""
        if listener is not None:
            self._service = http.Service(self.app())
            where = listener.getsockname()
            await self._service.listen(listener)
            _log.info(
                "operations",
                listening=f"[{where[0]}]:{where[1]}" if ":" in where[0] else f"{where[0]}:{where[1]}",
            )
        if before is not None:
            await before.stop()

    async def close(self) -> None:
        """Listen no more."""
        if self._service is not None:
            await self._service.stop()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- what is told ---------------------------------------------------------------------------------------

    async def view(self) -> View:
        """The host as it is now."""
        facts = await self._facts()
        watched = self._watched
        failed = watched.failed()
        known, problem = (None, facts) if isinstance(facts, str) else (facts, failed and _said(failed))
        now, settings = watched.clock().now(), watched.settings()
        return View(now, watched.host, watched.keyring(), watched.doubted(), known, problem, settings)

    async def _facts(self) -> surveys.Facts | str:
        """What the store says, or why it does not; one look at a time, whoever asks."""
        if self._asked is None or (self._asked[1].done() and self._timer() - self._asked[0] >= _FRESH):
            looking = asyncio.get_running_loop().run_in_executor(self._thread, self._look)
            self._asked = self._timer(), looking
        looking = self._asked[1]
        if not looking.done():
            await asyncio.wait([looking], timeout=_PATIENCE)
        return looking.result() if looking.done() else "The store does not answer."

    def _look(self) -> surveys.Facts | str:
        try:
            with self._watched.books.writing() as tx:
                return surveys.facts(tx, self._watched.host)
        except VolactError as error:
            return _said(error.refusal.code)

    # --- HTTP -----------------------------------------------------------------------------------------------

    def app(self) -> App:
        """The ASGI application."""
        routes = {"/health": self._health, "/metrics": self._text}

        async def application(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's own
            try:
                handle = routes.get(scope["path"])
                if handle is None or not _is_for_here(scope):
                    response = http.problem(Refusal("not-found"))
                elif scope["method"] != "GET":
                    response = http.problem(Refusal("method-not-allowed", "Use GET.", (("allow", "GET"),)))
                else:
                    response = await handle()
            except Exception as error:  # noqa: BLE001 - translated here, once
                response = http.problem(http.refusal_of(error))
            await response.send(send)

        return application

    async def _health(self) -> http.Response:
        found = health(await self.view())
        body = json.dumps(found, separators=(",", ":")).encode("utf-8")
        return http.Response(200 if found["status"] == "ok" else 503, http.JSON_HEADERS, body)

    async def _text(self) -> http.Response:
        return http.Response(200, _TEXT, self._metrics.text(await self.view()))


def _said(code: str) -> str:
    """A code of the list, and its sentence."""
    return f"{code}: {PROBLEMS[code].sentence}"


def _is_for_here(scope: Scope) -> bool:
    """Whether the request names loopback as its host: a browser that was led here by another name says that name."""
    for name, value in scope["headers"]:
        if name == b"host":
            text = value.decode("latin-1")
            host = (
                text.partition("]")[0].removeprefix("[") if text.startswith("[") else text.partition(":")[0]
            )
            return settings.is_loopback(host)
    return False
