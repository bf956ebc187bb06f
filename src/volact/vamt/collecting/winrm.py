"""What Windows machines report of themselves, over WinRM: WS-Management enumerations, read only (V2, T26, T29).

- Over TLS with a certificate that is verified; or, where the login says so, without TLS and with every message encrypted
  by NTLM or Kerberos. Never HTTP's basic authentication.
- What a machine answers is cut while it is read, each answer and all together; a redirect is not followed.
- The library blocks, so each machine has a thread. Who stops waiting shuts its connection, and the process ends without
  it: a machine that trickles could hold it for long.
- Tried against a stand-in; a real Windows has not been asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
import xml.etree.ElementTree as ET
from functools import partial
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

import requests
import spnego.exceptions
from pypsrp.exceptions import AuthenticationError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.wsman import NAMESPACES, WSMan
from requests.adapters import BaseAdapter

from volact.protocol.problems import Refusal, Refused, Unreachable, VolactError
from volact.vamt.collecting import windows
from volact.vamt.collecting.answers import first_line
from volact.vamt.collecting.targets import MOST_OUTPUT, WINRM_PORT, WINRM_TLS_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from volact.vamt.collecting.targets import Limits, Login, Target
    from volact.vamt.inventory import Report

T = TypeVar("T")

_CIMV2 = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/cimv2/*"
_WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
_ENVELOPE = 153_600
"""Bytes of one answer that is asked for; every Windows has at least this limit."""
_MOST_ANSWERS = 4 * MOST_OUTPUT
"""Bytes of all answers of a machine."""
_ROWS = 20
_MOST_PULLS = 60
_CHUNK = 16_384
_DENIED = (5, 0x80070005, 0x80338104)
"""WS-Management's codes for an account that may not read a class."""

# Without handlers the libraries' remarks, and tracebacks, would reach standard error.
for _name in ("pypsrp", "spnego", "urllib3"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class WinRm:
    """WinRM to many machines."""

    def __init__(self, limits: Limits) -> None:
        """Keep to these limits."""
        self._limits = limits

    async def report(self, target: Target, login: Login, now: int) -> Report | Refusal:
        """What a machine reports at time `now`, seconds UTC.

        Raises:
            Unreachable: nobody answered, or not as WinRM.
            Refused: `credential-refused`.
        """
        refused = Refusal("unreachable-name")
        for host in target.hosts:
            meter = _Meter(time.monotonic() + self._limits.whole)
            try:
                return await _in_thread(partial(self._report, host, target, login, meter, now))
            except Unreachable as error:
                if error.refusal.code not in ("unreachable-name", "unreachable-port"):
                    raise
                refused = error.refusal
            finally:
                meter.stop()
        raise Unreachable(refused)

    def _report(self, host: str, target: Target, login: Login, meter: _Meter, now: int) -> Report | Refusal:
        with (
            _authorities(login) as trusted,
            _translated(host),
            self._wsman(host, target, login, trusted) as wsman,
            contextlib.closing(meter),
        ):
            meter.watch(wsman)
            found = {name: _rows(wsman, name, query) for name, query in windows.QUERIES.items()}
            return windows.report(found, now)

    def _wsman(self, host: str, target: Target, login: Login, trusted: bool | str) -> WSMan:
        return WSMan(
            host,
            port=target.port or (WINRM_PORT if login.plain else WINRM_TLS_PORT),
            username=login.user or None,
            password=login.password or None,
            ssl=not login.plain,
            auth="negotiate",
            encryption="always" if login.plain else "auto",  # TLS encrypts already
            cert_validation=trusted,  # type: ignore[arg-type]  # requests takes a path too
            connection_timeout=self._limits.connect,  # type: ignore[arg-type]  # seconds, as requests takes them
            read_timeout=self._limits.whole,  # type: ignore[arg-type]  # likewise
            max_envelope_size=_ENVELOPE,
            no_proxy=True,
        )


class _Meter:
    """How much a machine may still send, and until when."""

    def __init__(self, until: float) -> None:
        self._until, self._left, self._stopped = until, _MOST_ANSWERS, False
        self._last: requests.Response | None = None

    def watch(self, wsman: WSMan) -> None:
        """Put itself between the library and the network; nothing has been sent yet."""
        transport = wsman.transport
        session = transport._build_session()  # noqa: SLF001 - the library has no other place to bound what it reads
        session.max_redirects = 0
        must_encrypt = bool(transport.wrap_required)
        for prefix, adapter in list(session.adapters.items()):
            session.mount(prefix, _Bounded(adapter, self, must_encrypt=must_encrypt))
        transport.session = session
        send: Callable[..., bytes] = transport.send

        def careful(*message: Any, **settings: Any) -> bytes:  # noqa: ANN401 - the library's own
            answer = send(*message, **settings)
            if b"<!" in answer or b"\0" in answer:  # a DTD, or an encoding in which one could hide
                raise Unreachable(Refusal("answer-nonsense", "Its XML has a DTD or is not UTF-8."))
            return answer

        transport.send = careful  # type: ignore[method-assign]

    def begin(self, response: requests.Response) -> None:
        """Know the answer that comes now."""
        self._last = response

    def close(self) -> None:
        """Close what was not read to its end; in the thread that reads."""
        if self._last is not None:
            self._last.close()

    def stop(self) -> None:
        """Let no more be read, and end what waits for more; from another thread, so nothing is closed here."""
        self._stopped = True
        connection = getattr(self._last.raw, "_connection", None) if self._last is not None else None
        own = getattr(connection, "sock", None)
        if own is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(own, socket.SHUT_RDWR)

    def take(self, some: bytes) -> bytes:
        """Count what was read."""
        self._left -= len(some)
        if self._left < 0:
            raise Unreachable(Refusal("answer-too-long", f"More than {_MOST_ANSWERS // 1024} KiB."))
        if self._stopped or time.monotonic() > self._until:
            raise Unreachable(Refusal("timed-out"))
        return some


class _Bounded(BaseAdapter):
    """Hands requests on, and measures what comes back while it is read.

    Without TLS the library would take an answer in the clear too, which anybody on the way could have written: here
    such a one ends it. Refusals of a login (401) have texts in the clear, which nobody reads.
    """

    def __init__(self, inner: BaseAdapter, meter: _Meter, *, must_encrypt: bool) -> None:
        super().__init__()
        self._inner, self._meter, self._must_encrypt = inner, meter, must_encrypt

    def send(self, *request: Any, **settings: Any) -> requests.Response:  # noqa: ANN401 - as the library calls it
        self._meter.take(b"")
        response = self._inner.send(*request, **settings)
        self._meter.begin(response)
        response.connection = self  # type: ignore[assignment]  # by which a handshake's next message goes
        stream = response.raw.stream
        is_clear = not response.headers.get("content-type", "").startswith("multipart/")
        is_refused = self._must_encrypt and is_clear and response.status_code != requests.codes.unauthorized

        def measured(*_amount: object, **_settings: object) -> Iterator[bytes]:
            for some in stream(_CHUNK, decode_content=False):
                if is_refused:
                    raise Unreachable(
                        Refusal("answer-nonsense", f"HTTP status {response.status_code}, not encrypted.")
                    )
                yield self._meter.take(some)

        response.raw.stream = measured
        return response

    def close(self) -> None:
        self._inner.close()


async def _in_thread(call: Callable[[], T]) -> T:
    """What `call` returns or raises, from a thread that the process does not wait for when it ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def tell(found: T | None, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(found)  # type: ignore[arg-type]  # T where no error

    def work() -> None:
        found, failed = None, None
        try:
            found = call()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where it was asked for
            failed = error
        with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is closed
            loop.call_soon_threadsafe(tell, found, failed)

    threading.Thread(target=work, name="winrm", daemon=True).start()
    return await done


def _rows(wsman: WSMan, name: str, query: str) -> list[Mapping[str, str]]:
    """The rows of a class; none if it need not be there and the account may not read it."""
    try:
        return list(_enumerated(wsman, query))
    except WSManFaultError as error:
        if name in windows.NEEDED:
            code = "credential-refused" if error.code in _DENIED else "answer-nonsense"
            said = first_line(str(error.reason or "").encode())
            raise Unreachable(Refusal(code, f"{name}: {said}")) from None
        return []


def _enumerated(wsman: WSMan, query: str) -> Iterator[Mapping[str, str]]:
    """The rows of a WQL query (DSP0226 section 8, MS-WSMV's dialect)."""
    enumerate_ = ET.Element(_tag("wsen", "Enumerate"))
    ET.SubElement(enumerate_, _tag("wsman", "OptimizeEnumeration"))
    ET.SubElement(enumerate_, _tag("wsman", "MaxElements")).text = str(_ROWS)
    ET.SubElement(enumerate_, _tag("wsman", "Filter"), Dialect=_WQL).text = query
    answer = wsman.enumerate(_CIMV2, enumerate_)
    for _ in range(_MOST_PULLS):
        yield from _items(answer)
        context = answer.find(".//wsen:EnumerationContext", NAMESPACES)
        ends = (
            answer.find(".//wsman:EndOfSequence", NAMESPACES),
            answer.find(".//wsen:EndOfSequence", NAMESPACES),
        )
        if context is None or not context.text or ends != (None, None):
            return
        pull = ET.Element(_tag("wsen", "Pull"))
        ET.SubElement(pull, _tag("wsen", "EnumerationContext")).text = context.text
        ET.SubElement(pull, _tag("wsen", "MaxElements")).text = str(_ROWS)
        answer = wsman.pull(_CIMV2, pull)
    raise Unreachable(Refusal("answer-nonsense", "Its list does not end."))


def _items(answer: ET.Element) -> Iterator[Mapping[str, str]]:
    for found in ("wsman:Items", "wsen:Items"):
        for items in answer.iterfind(f".//{found}", NAMESPACES):
            for item in items:
                yield {one.tag.rpartition("}")[2]: one.text for one in item if one.text}


def _tag(prefix: str, name: str) -> str:
    return f"{{{NAMESPACES[prefix]}}}{name}"


@contextlib.contextmanager
def _authorities(login: Login) -> Iterator[bool | str]:
    """The CAs that a certificate may come from, as the library takes them: those of the system, or a file's path."""
    if not login.ca:
        yield True
        return
    with NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as file:
        file.write(login.ca)
        file.flush()
        yield file.name


@contextlib.contextmanager
def _translated(host: str) -> Iterator[None]:
    """Turns what the libraries raise into the errors of this package."""
    try:
        yield
    except VolactError:
        raise
    except (AuthenticationError, spnego.exceptions.SpnegoError):
        raise Refused(Refusal("credential-refused")) from None
    except requests.exceptions.SSLError as error:
        code = "certificate-untrusted" if _is_about_trust(error) else "answer-nonsense"
        raise Unreachable(Refusal(code, f"{host}: {_reason(error)}")) from None
    except (requests.exceptions.ConnectTimeout, requests.exceptions.ConnectionError) as error:
        code = "unreachable-name" if "NameResolutionError" in repr(error) else "unreachable-port"
        raise Unreachable(Refusal(code, host)) from None
    except requests.exceptions.Timeout:
        raise Unreachable(Refusal("timed-out", host)) from None
    except WinRMTransportError as error:
        raise Unreachable(Refusal("answer-nonsense", f"{host}: HTTP status {error.code}.")) from None
    except (WinRMError, requests.exceptions.RequestException, ET.ParseError, ValueError, OSError) as error:
        raise Unreachable(Refusal("answer-nonsense", f"{host}: {type(error).__name__}.")) from None


def _is_about_trust(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in repr(error)


def _reason(error: BaseException) -> str:
    """Why OpenSSL does not trust a certificate, in its words."""
    cause: Any = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return first_line(cause.verify_message.encode())
        cause = getattr(cause, "reason", None) or (cause.args[0] if cause.args else None)
        cause = cause if isinstance(cause, BaseException) else None
    return "no TLS connection could be made"
