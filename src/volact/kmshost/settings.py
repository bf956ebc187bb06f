"""A host's settings as commands change them: checked, written to the table, and said which place wins (K6, K16).

A running service re-reads them every second. A refused value changes nothing.
"""

from __future__ import annotations

import contextlib
import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from volact import config, sources
from volact.kmshost import dnskey, dnsrecords, listening, priority, store
from volact.protocol import policy
from volact.protocol.problems import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from volact.kmshost.setup import Opened
    from volact.protocol.policy import Policy

ROLE = "kmshost"
MAX_PORT = 65535
_MINUTE = policy.MINUTE
_LOCALHOST, _LOOPBACK = "localhost", "127.0.0.1"


class Changed(NamedTuple):
    """What a change came to.

    Attributes:
        name: the setting.
        value: what is written now.
        warning: what the administrator should know about the value, or empty.
        wins: where the value that is in force comes from: the ``setting table``, or a place that goes before it.
    """

    name: str
    value: int
    warning: str
    wins: str


def set_port(opened: Opened, port: int) -> Changed:
    """Set the TCP port, 1 to 65535 (K16).

    Raises:
        UsageError: if it is none.
        BrokenData: `port-taken` if another program listens on it here.
    """
    if not 1 <= port <= MAX_PORT:
        raise UsageError(f"A port is a number from 1 to {MAX_PORT}.")
    _check_free(opened, port)
    return _write(opened, "port", port, "Ports below 1024 are root's." if port < 1024 else "")  # noqa: PLR2004 - what the kernel keeps


def _check_free(opened: Opened, port: int) -> None:
    """Try the port as the service would; the running service's own is free for it, also one that it is just leaving.

    Raises:
        BrokenData: `port-taken`.
    """
    from volact import http  # noqa: PLC0415 - a server's parts, which no other command needs

    running = listening.read(opened.folder)
    if running is not None and port in (running.port, *running.leaving):
        return
    address = running.address if running else opened.settings_now().listen
    # Another address or the right to a port below 1024 may be the service's alone: it says so itself.
    with contextlib.suppress(UsageError):
        http.bind(address.removeprefix("[").removesuffix("]"), port).close()


def set_renewal(opened: Opened, minutes: int) -> Changed:
    """Set how often machines renew, 15 minutes to 30 days (K6); beyond half the record lifetime with a warning.

    Raises:
        UsageError: if it is out of bounds, or below the retry interval that is set.
    """
    low, high = policy.SHORTEST_WAIT // _MINUTE, policy.LONGEST_RENEWAL // _MINUTE
    if not low <= minutes <= high:
        raise UsageError(f"The renewal interval is {low} to {high} minutes (15 minutes to 30 days).")
    settings = opened.settings_now()
    if settings.retry_minutes > minutes:
        raise UsageError(
            f"The renewal interval is not shorter than the retry interval, {settings.retry_minutes} minutes."
        )
    return _write(opened, "renewal_minutes", minutes, _lifetime_warning(opened.policies(), minutes))


def _lifetime_warning(policies: Sequence[Policy], minutes: int) -> str:
    lifetime = min(
        (one.record_lifetime for one in policies), default=policy.of_edition("client").record_lifetime
    )
    if 2 * minutes * _MINUTE <= lifetime:
        return ""
    return (
        f"A record lives {lifetime // policy.DAY} days: a machine that misses one renewal of {minutes} minutes"
        " can drop out of the count."
    )


def set_retry(opened: Opened, minutes: int) -> Changed:
    """Set how often machines try again after a failure, from 15 minutes up to the renewal interval (K6).

    Raises:
        UsageError: if it is out of bounds.
    """
    low = policy.SHORTEST_WAIT // _MINUTE
    renewal = _renewal(opened)
    if not low <= minutes <= renewal:
        raise UsageError(
            f"The retry interval is {low} minutes up to the renewal interval, {renewal} minutes."
        )
    return _write(opened, "retry_minutes", minutes, "")


def set_publishing(opened: Opened, *, on: bool) -> Changed:
    """Switch publishing in DNS on or off; a running service publishes or withdraws at its next look (D2)."""
    with opened.store.reading() as tx:
        published = store.published(tx, opened.signer.kid)
    if on or listening.read(opened.folder) or not published:
        warning = ""
    else:
        warning = (
            "No service runs, so the records stay for now: volact kmshost publish --withdraw takes them back."
        )
    return _write(opened, "dns_publishing", on, warning)


def set_priority(opened: Opened, *, low: bool) -> Changed:
    """Switch the service to a low priority, or back to that of its start; one that runs changes it by itself (rule S)."""
    running = listening.read(opened.folder)
    warning = ""
    if running is not None and not low and not priority.may_raise(running.pid):
        warning = (
            "The service that runs may not raise its priority (it is not root's, and has no CAP_SYS_NICE):"
            " that has effect at its next start."
        )
    return _write(opened, "low_priority", low, warning)


def _renewal(opened: Opened) -> int:
    """The shortest renewal interval in force, in minutes."""
    own = opened.settings_now().renewal_minutes
    usual = policy.of_edition("client").renewal
    return own or min((one.renewal for one in opened.policies()), default=usual) // _MINUTE


def where(opened: Opened, name: str) -> str:
    """Which of the places the value of a setting comes from, for people.

    Raises:
        SettingInvalid: if one of the places holds something else than settings.
    """
    with opened.store.reading() as tx:
        rows = store.settings(tx, opened.signer.kid)
    return config.source(ROLE, opened.folder.parent, opened.environ, rows, name)


def problem_of(settings: config.KmshostSettings) -> str:
    """What is wrong with settings that came from a file or a variable and not through here; empty if nothing is."""
    low, high = policy.SHORTEST_WAIT // _MINUTE, policy.LONGEST_RENEWAL // _MINUTE
    if not 0 <= settings.port <= MAX_PORT:
        return f"port is a number from 0 (a free one) to {MAX_PORT}."
    problem = _ops_problem(settings.ops_listen)
    if problem:
        return problem
    wrong = next((one for one in _listed(settings.networks) if sources.network(one) is None), None)
    if wrong is not None:
        return f"networks: {wrong[:60]!r} is no network such as 192.0.2.0/24 or 2001:db8::/32."
    for name in ("source_rate", "source_burst", "record_cap"):
        if getattr(settings, name) < 0:
            return f"{name} is 0 (no limit) or more."
    for name in ("renewal_minutes", "retry_minutes"):
        value = getattr(settings, name)
        if value and not low <= value <= high:
            return f"{name} is 0, or {low} to {high}."
    if settings.renewal_minutes and settings.retry_minutes > settings.renewal_minutes:
        return "retry_minutes is at most renewal_minutes."
    return dnsrecords.problem_of(settings)


def problem_now(opened: Opened) -> str:
    """What is wrong with the settings as their places hold them now; empty if nothing is.

    A service that runs goes on with those that it had before, and does not start again until it is mended.
    """
    try:
        found = opened.settings_now()
    except config.SettingInvalid as error:
        return str(error)
    return problem_of(found) or dnskey.problem_of(found)


def networks(settings: config.KmshostSettings) -> tuple[str, ...]:
    """The networks whose machines alone are served; empty for all. `problem_of` has looked at them."""
    return tuple(found for one in _listed(settings.networks) if (found := sources.network(one)))


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def ops_place(text: str) -> tuple[str, int]:
    """Read the setting `ops_listen`: HOST:PORT, and the host is a loopback address.

    Raises:
        UsageError: if it is something else.
    """
    from volact import http  # noqa: PLC0415 - a server's parts, which most commands do not need

    host, port = http.listen_on(text)
    host = _LOOPBACK if host.lower() == _LOCALHOST else host  # whatever names mean here
    if not is_loopback(host):
        raise UsageError(f"{host[:100]!r} is no loopback address; give 127.0.0.1:PORT or [::1]:PORT.")
    return host, port


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine's own, which nobody else reaches, or the name of that."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == _LOCALHOST


def _ops_problem(listen: str) -> str:
    try:
        if listen:
            ops_place(listen)
    except UsageError as error:
        return f"ops_listen: {error.refusal.detail}"
    return ""


def _write(opened: Opened, name: str, value: int, warning: str) -> Changed:
    with opened.store.writing() as tx:
        store.put_setting(tx, opened.signer.kid, name, str(value).lower())  # `true`, not Python's `True`
    wins = where(opened, name)
    if wins != "setting table":
        warning = f"{warning} It has no effect while the {wins} says otherwise.".strip()
    return Changed(name, value, warning, wins)
