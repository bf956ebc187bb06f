"""``volact doctor``: looks at what of volact is on this machine, or at a domain, and says what is wrong (D5)."""

from __future__ import annotations

import os
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FuturesTimeout
from typing import TYPE_CHECKING, Self

from volact import config
from volact.client.cli import Parser, surroundings
from volact.console import DONE, REFUSED, Console, run
from volact.doctor import checks, domains, licensed, probing
from volact.doctor.checks import CLIENT, DOMAIN, FAILED, HOST, SKIPPED, Check
from volact.doctor.probing import Places
from volact.protocol.problems import VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from rich.status import Status

    from volact.protocol.trust import Roots

LONGEST = 50.0
"""Seconds after which no further check begins, and none is waited for; the whole is over within a minute."""
_QUIET = 1.0
_KMSHOST = "kmshost"
_NOTHING = """\
Neither a product nor a KMS host is set up here.
On a machine:      volact client install FILE --root ROOT
On a KMS host:     volact kmshost init FILE --root ROOT
To see it at work: volact quickstart
A domain of DNS:   volact doctor --domain DOMAIN"""


def parser() -> Parser:
    """The command line."""
    text = "Look at what is set up here, and say what is wrong and what to do. Nothing is changed."
    found = Parser(prog="volact doctor", description=text)
    found.add_argument("--domain", metavar="D", help="look at the KMS hosts that DNS names in this domain")
    found.add_argument("--json", action="store_true", help="print exactly one JSON value on standard output")
    return found


def main(arguments: list[str]) -> int:
    """Run ``volact doctor`` and say its exit code: 0 if no check failed, else 1."""
    out = Console(json="--json" in arguments, words=arguments)
    try:
        return run(out, lambda: _run(out, arguments))
    except SystemExit as stop:  # --help has been printed
        return int(stop.code or 0)


def _run(out: Console, arguments: list[str]) -> int:
    from volact.client import address

    given = parser().parse_args(arguments)
    domain = address.read_domain(given.domain) if given.domain is not None else ""
    with Progress(out) as progress:
        found = examine(os.environ, domain, progress)
    nothing = not found and not domain
    out.answer(checks.members(found), _NOTHING if nothing else checks.prose(found))
    return DONE if checks.is_fine(found) else REFUSED


def examine(environ: Mapping[str, str], domain: str, progress: Progress) -> list[Check]:
    """All checks of this machine, or with a domain only that domain's."""
    until = time.monotonic() + LONGEST
    installed = licensed.installed()
    found: list[Check] = []
    if domain:
        known = {**licensed.publishers(installed), **_host_publisher(environ)}
        places = _places(environ, known)
        return _done(
            [(f"DNS of {domain}", lambda: domains.look(places, DOMAIN, domain))], DOMAIN, until, progress
        )
    if (config.home(environ) / _KMSHOST).is_dir():
        found += _host(environ, until, progress)
    if installed:
        places = _places(environ, licensed.publishers(installed))
        found += _done(licensed.look(installed, places, environ), CLIENT, until, progress)
    return found


def _places(environ: Mapping[str, str], known: Mapping[str, Roots]) -> Places:
    lab = bool(known) and all(one.lab for one in known.values())
    return Places(probing.servers_for(environ, lab=lab), known, surroundings(environ).label)


def _host_publisher(environ: Mapping[str, str]) -> dict[str, Roots]:
    """The publisher of the KMS host here, if there is one that can be opened."""
    if not (config.home(environ) / _KMSHOST).is_dir():
        return {}
    try:
        from volact.kmshost import setup

        with setup.opened(environ) as opened:
            roots = opened.roots()
            return {roots.pub: roots} if roots else {}
    except (VolactError, ModuleNotFoundError, OSError):
        return {}


def _host(environ: Mapping[str, str], until: float, progress: Progress) -> list[Check]:
    """The checks of the KMS host here; if it cannot be opened, that alone."""
    looked_at = f"the KMS host in {config.home(environ) / _KMSHOST}"

    def opened_and_looked() -> list[Check]:
        from volact.doctor import host
        from volact.kmshost import setup

        with setup.opened(environ) as opened:
            roots = opened.roots()
            places = _places(environ, {roots.pub: roots} if roots else {})
            return _done(host.look(opened, places, environ), HOST, until, progress)

    try:
        return checks.guarded(HOST, "store", looked_at, opened_and_looked)
    except ModuleNotFoundError as error:
        said = f"A KMS host's folder is here, but {error.name} is not installed."
        return [Check(HOST, "store", FAILED, looked_at, said, "pip install 'volact[server]'")]


def _done(
    steps: Iterable[tuple[str, Callable[[], list[Check]]]], role: str, until: float, progress: Progress
) -> list[Check]:
    """Do one step after the other, as long as there is time."""
    found: list[Check] = []
    for name, step in steps:
        left = until - time.monotonic()
        if left <= 0:
            found.append(Check(role, name, SKIPPED, name, "There was no time left for it."))
            continue
        progress.say(name)
        found += _within(left, role, name, step)
    return found


def _within(seconds: float, role: str, name: str, step: Callable[[], list[Check]]) -> list[Check]:
    """What a step finds, or that it failed; nobody waits longer for it than so many seconds."""
    found: Future[list[Check]] = Future()

    def work() -> None:
        try:
            found.set_result(checks.guarded(role, name, name, step))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            found.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return found.result(seconds)
    except FuturesTimeout:
        late = "It did not come to an end in time."
        return [Check(role, name, FAILED, name, late, "Check the name servers and the network.")]


class Progress:
    """Says on standard error what is being done, once it takes longer than a second; on a terminal in one line."""

    def __init__(self, out: Console) -> None:
        """Speak beside `out`."""
        self._out = out
        self._text, self._shown = "", False
        self._lock = threading.Lock()
        self._timer = threading.Timer(_QUIET, self._begin)
        self._timer.daemon = True
        self._status = _status() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        """Begin."""
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; the line is taken away."""
        self._timer.cancel()
        with self._lock:
            if self._shown and self._status is not None:
                self._status.stop()
            self._shown = False

    def say(self, text: str) -> None:
        """Something else is being done now."""
        with self._lock:
            self._text = text
            if self._shown:
                self._show()

    def _begin(self) -> None:
        with self._lock:
            self._shown = True
            if self._status is not None:
                self._status.start()
            self._show()

    def _show(self) -> None:
        line = f"looking at {self._text} ..."
        if self._status is not None:
            self._status.update(line)
        else:
            self._out.remark(line)


def _status() -> Status | None:
    """Rich's line, which a machine without the server's parts does not have."""
    try:
        from rich.console import Console as Terminal
    except ModuleNotFoundError:
        return None
    return Terminal(stderr=True).status("")
