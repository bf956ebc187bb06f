"""Machines from a directory (V1): LDAP, paged (RFC 2696), by StartTLS or ldaps. The only file that uses ldap3.

- A password never travels without TLS, unless the caller says so by `unsafe_plain`; the server's certificate is verified
  by the standard library, with the CA that was named or the system's.
- Referrals are said and not followed: they would carry the account to servers that nobody named.
- A search ends in time, whatever the server does; what it gave until then stays.
- A value that is no name, address or hardware address is left out with its reason, and its entry with it only if
  nothing is left.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from volact.protocol.problems import Refusal, Refused, Unreachable, UsageError, VolactError, printable
from volact.vamt.discovering import names
from volact.vamt.discovering.names import Found, Host, Skipped
from volact.vamt.inventory import Sighting

with warnings.catch_warnings():
    # It is older than its ASN.1 library, and asks that for names which are deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core import exceptions
    from ldap3.operation.search import parse_filter
    from ldap3.utils.conv import escape_filter_chars
    from ldap3.utils.dn import parse_dn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COMPUTERS = "(|(objectClass=computer)(objectClass=ipHost)(objectClass=device))"
"""Machines in Active Directory and Samba, and by RFC 2307 and RFC 4519."""
ATTRIBUTES = ("dNSHostName", "cn", "name", "operatingSystem", "ipHostNumber", "macAddress")
PAGE = 500
MOST_ENTRIES = 1_000_000
_MOST_VALUES, _MOST_BYTES = 64, 1024
"""Values of an attribute that are looked at, and bytes of one."""
_PAGED = "1.2.840.113556.1.4.319"
_PORTS = {"ldap": 389, "ldaps": 636}
_SUCCESS, _TIME, _SIZE, _REFERRAL, _NO_OBJECT, _BAD_DN = 0, 3, 4, 10, 32, 34

Entry: TypeAlias = "dict[str, Any]"


class Directory(NamedTuple):
    """Where to look, and as whom.

    Attributes:
        url: ``ldap://HOST[:PORT]`` (StartTLS) or ``ldaps://HOST[:PORT]``.
        base: the DN below which machines stand.
        account: the DN (or what else the server takes as a name) to bind as; empty: nobody.
        password: its password.
        ca_file: the CA that the server's certificate is from; None: those of the system.
        unsafe_plain: with ``ldap://`` speak without TLS, the password included.
        query: the filter for machines (RFC 4515).
        named: further, only those of this name; ``*`` stands for any text.
    """

    url: str
    base: str
    account: str = ""
    password: str = ""
    ca_file: Path | None = None
    unsafe_plain: bool = False
    query: str = COMPUTERS
    named: str = ""


class Limits(NamedTuple):
    """How long the server is waited for, whole seconds: for each of its messages, and in all."""

    patience: int = 10
    most_seconds: int = 600


def discover(
    directory: Directory,
    limits: Limits = Limits(),  # noqa: B008 - a value
    group: str = "",
) -> Iterator[Found]:
    """The machines below a base, page by page.

    Raises:
        UsageError: what was given is no URL, DN or filter.
        Refused: `directory-refused`: the account, its rights, the base, or a limit of the server.
        Unreachable: `directory-unreachable`: nobody there, or nobody who proves to be the one.
    """
    parsed = _parse(directory.url)
    _check(directory)
    connection = _connection(directory, parsed, limits)
    with _ended(connection, limits.most_seconds) as late:
        try:
            _begin(connection, directory, parsed.secure)
            for entry in _entries(connection, directory, limits):
                yield from _read(entry, group)
        except VolactError:
            raise
        except Exception as error:  # noqa: BLE001 - ldap3 fails in any way on what is no LDAP
            said = f"It took longer than {limits.most_seconds} s" if late.is_set() else _said(error)
            raise Unreachable(Refusal("directory-unreachable", f"{parsed}: {said}.")) from None


def place(url: str) -> str:
    """Where a directory is, as it may be written down: an address with an account in it is refused, and goes nowhere.

    Raises:
        UsageError: it is no directory's URL.
    """
    return str(_parse(url))


# --- the connection -----------------------------------------------------------------------------------------------


class _Url(NamedTuple):
    secure: bool
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


def _parse(url: str) -> _Url:
    try:
        parts = urlsplit(url)
        port = _PORTS.get(parts.scheme, 0) if parts.port is None else parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in _PORTS or not parts.hostname or not port or extra:
        hint = "Give ldap://HOST[:PORT] or ldaps://HOST[:PORT]; the base and the account by their options."
        raise UsageError(f"{names.shown(url)} is no directory's address.", hint)
    return _Url(parts.scheme == "ldaps", parts.hostname, port)


def _check(directory: Directory) -> None:
    """What can be wrong before anybody is called."""
    try:
        parse_dn(directory.base)
    except exceptions.LDAPInvalidDnError:
        hint = "Give one such as dc=corp,dc=example."
        raise UsageError(f"{names.shown(directory.base)} is no base (DN).", hint) from None
    try:
        parse_filter(
            _filter(directory), None, auto_escape=True, auto_encode=False, validator=None, check_names=False
        )
    except exceptions.LDAPException:
        raise UsageError(f"{names.shown(directory.query)} is no LDAP filter.", "See RFC 4515.") from None
    if directory.account and not directory.password:
        # RFC 4513 5.1.2: a server may take it for nobody's and let it in.
        raise UsageError("The account has no password.", "Give its password, or leave the account out.")


class _Verified(ldap3.Tls):  # type: ignore[misc]  # ldap3 has no types
    """TLS by the standard library, name and CA verified; ldap3's own compares names by itself."""

    def __init__(self, host: str, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._host, self._context = host, context

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ANN401, ARG002 - ldap3's
        """Put TLS on a connection's socket."""
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)


def _connection(directory: Directory, url: _Url, limits: Limits) -> Any:  # noqa: ANN401 - ldap3 has no types
    try:
        context = ssl.create_default_context(cafile=directory.ca_file)
    except OSError as error:  # an SSLError also: a file that holds no certificate
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise UsageError(f"{directory.ca_file}: {reason}.", "Name a file of PEM certificates.") from None
    server = ldap3.Server(
        url.host,
        url.port,
        use_ssl=url.secure,
        tls=_Verified(url.host, context),
        get_info=ldap3.NONE,
        connect_timeout=limits.patience,
    )
    return ldap3.Connection(
        server,
        user=directory.account or None,
        password=directory.password or None,
        authentication=ldap3.SIMPLE if directory.account else ldap3.ANONYMOUS,
        auto_bind=ldap3.AUTO_BIND_NONE,
        auto_referrals=False,
        check_names=False,
        read_only=True,
        raise_exceptions=False,
        receive_timeout=limits.patience,
    )


@contextlib.contextmanager
def _ended(connection: Any, seconds: int) -> Iterator[threading.Event]:  # noqa: ANN401 - ldap3 has no types
    """End the connection after so many seconds, and then say so; and at the end in any case."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError, AttributeError):
            connection.socket.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        with contextlib.suppress(exceptions.LDAPException, OSError, AttributeError):
            connection.unbind()
        if connection.socket is not None:  # left behind where a call failed
            connection.socket.close()


def _begin(connection: Any, directory: Directory, secure: bool) -> None:  # noqa: ANN401 - ldap3 has no types
    connection.open()
    if not secure and not directory.unsafe_plain:
        connection.start_tls()
    if not connection.bind():
        raise _refused(f"It did not let {directory.account or 'nobody'} in: {_result(connection)}.")


def _entries(connection: Any, directory: Directory, limits: Limits) -> Iterator[Entry]:  # noqa: ANN401 - ldap3 has no types
    """Entries and references, page by page."""
    cookie: Any = None
    seen = 0
    while True:
        connection.search(
            directory.base,
            _filter(directory),
            attributes=list(ATTRIBUTES),
            paged_size=PAGE,
            paged_cookie=cookie,
            time_limit=limits.most_seconds,
        )
        for entry in connection.response or ():
            seen += 1
            yield entry
        code = connection.result["result"]
        if code != _SUCCESS:
            raise _refused(_why(code, connection, directory, seen))
        if seen >= MOST_ENTRIES:
            raise _refused(f"It gave {seen:,} entries, and no more are taken.")
        control = connection.result.get("controls", {}).get(_PAGED, {})
        cookie = control.get("value", {}).get("cookie")
        if not cookie:
            return


def _filter(directory: Directory) -> str:
    query = directory.query if directory.query.startswith("(") else f"({directory.query})"
    if not directory.named:
        return query
    wanted = "*".join(escape_filter_chars(part) for part in directory.named.split("*"))
    return f"(&{query}(|(cn={wanted})(dNSHostName={wanted})))"


def _why(code: int, connection: Any, directory: Directory, seen: int) -> str:  # noqa: ANN401 - ldap3 has no types
    if code == _NO_OBJECT:
        return f"There is no {names.shown(directory.base)}, or this account may not see it."
    if code == _BAD_DN:
        return f"{names.shown(directory.base)} is no DN there."
    if code in (_TIME, _SIZE):
        limit = "time" if code == _TIME else "number"
        return (
            f"It gave {seen:,} entries and ended by its own limit of {limit}; narrow the base or the filter."
        )
    if code == _REFERRAL:
        others = ", ".join(names.shown(str(one)) for one in connection.result.get("referrals") or ())
        return f"It refers to {others or 'another server'}, which is not followed; ask that one."
    return f"It says {_result(connection)}."


def _result(connection: Any) -> str:  # noqa: ANN401 - ldap3 has no types
    result = connection.result or {}
    text = str(result.get("message") or "")
    said = f"{result.get('description')}" + (f" ({text})" if text else "")
    return printable(said.strip())[:200]


def _refused(detail: str) -> Refused:
    return Refused(Refusal("directory-refused", detail))


def _said(error: Exception) -> str:
    """What ldap3 says; its errors are told as tuples of texts."""
    text = " ".join(str(error).split()).strip("()'\",.")
    return printable(text or type(error).__name__)[:300]


# --- an entry -----------------------------------------------------------------------------------------------------


def _read(entry: Entry, group: str) -> Iterator[Found]:
    """The machine that an entry is, and what of it was left out."""
    if entry["type"] == "searchResRef":
        for uri in entry.get("uri") or ():
            yield Skipped("referral", f"{names.shown(str(uri))} was not followed")
        return
    where = names.shown(str(entry.get("dn", "")))
    raw: Mapping[str, Any] = entry.get("raw_attributes") or {}
    values = {name.lower(): list(found)[:_MOST_VALUES] for name, found in raw.items()}
    addresses, macs = [], []
    for text in _texts(values.get("iphostnumber", ())):
        address = names.address(text, here=False)
        if address is None:
            yield Skipped(where, f"{names.shown(text)} is no address of a machine in a network")
        else:
            addresses.append(address)
    for text in _texts(values.get("macaddress", ())):
        mac = names.mac(text)
        if mac is None:
            yield Skipped(where, f"{names.shown(text)} is no hardware address")
        else:
            macs.append(mac)
    host = _host(values, str(entry.get("dn", "")))
    if host is None and not addresses:
        yield Skipped(where, "it has neither the name of a host nor an address")
        return
    platform = names.platform(next(_texts(values.get("operatingsystem", ())), ""))
    yield Sighting(
        "ldap",
        *(host or ("", "")),
        addresses=tuple(dict.fromkeys(addresses)),
        transport="winrm" if platform == "windows" else "",
        platform=platform,
        macs=tuple(dict.fromkeys(macs)),
        group=group,
    )


def _texts(values: Any) -> Iterator[str]:  # noqa: ANN401 - what a server sent
    """Values as text; of one that is too long the beginning, which is then no name of anything."""
    for value in values:
        yield bytes(value[:_MOST_BYTES]).decode("utf-8", "replace")


def _host(values: Mapping[str, Any], dn: str) -> Host | None:
    """The name: DNS' own first; a short one is completed by the domain in the entry's place (RFC 2247)."""
    found = [
        host
        for attribute in ("dnshostname", "cn", "name")
        for text in _texts(values.get(attribute, ()))
        if (host := names.host(text)) is not None
    ]
    host = next((one for one in found if one.domain), next(iter(found), None))
    if host is None or host.domain:
        return host
    return names.host(f"{host.name}.{_domain(dn)}") or host


def _domain(dn: str) -> str:
    try:
        parts = parse_dn(dn)
    except exceptions.LDAPInvalidDnError:
        return ""
    return ".".join(value for kind, value, _ in parts if kind.lower() == "dc")
