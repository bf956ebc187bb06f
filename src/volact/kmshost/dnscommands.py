"""Publishing in DNS by command, and what the commands say of it (D2).

A running service publishes by itself; a command does it now, also where none runs, and remembers it in the same table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from volact.commands import when
from volact.config import SettingInvalid
from volact.kmshost import dnsrecords, listening, publishing, whereabouts
from volact.kmshost import store as sql
from volact.protocol.problems import PROBLEMS, Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from volact.config import KmshostSettings
    from volact.kmshost.publishing import Result
    from volact.kmshost.setup import Opened


def by_hand(opened: Opened) -> list[str]:
    """The lines of a zone file that publish a host: for entering them by hand (D2)."""
    found, port = _now(opened)
    return dnsrecords.lines(dnsrecords.by_hand(found, whereabouts.here(found), port))


def publish_now(opened: Opened) -> list[Result]:
    """Publish in every domain, and withdraw where it is published and no longer wanted.

    Raises:
        UsageError: if publishing is off, or there is no domain or port to publish.
        Refused: `host-not-activated`.
        VolactError: if the store cannot be used.
    """
    found, port = _now(opened)
    if not found.dns_publishing:
        raise UsageError("Publishing in DNS is off.", "Switch it on: slmgr /sdns")
    if not found.dns_domains.strip():
        next_step = "Set dns_domains, or enter the records by hand: volact kmshost publish --show"
        raise UsageError("No domain is set in which to publish.", next_step)
    if not port:
        raise UsageError("The port is not known: it is set to 0, and no service runs.", "Start the service.")
    keyring = opened.keyring()
    if keyring is None or keyring.newest is None:
        raise Refused(Refusal("host-not-activated"))
    return _publisher(opened).publish_all(found, port)


def withdraw_now(opened: Opened) -> list[Result]:
    """Take back everything that the host has published.

    Raises:
        VolactError: if the store cannot be used.
    """
    return _publisher(opened).withdraw_all(_now(opened)[0], publishing.DOMAIN_SECONDS)


def _publisher(opened: Opened) -> publishing.Publisher:
    return publishing.Publisher(opened.store, opened.signer.kid, opened.folder, opened.clock.now)


def _now(opened: Opened) -> tuple[KmshostSettings, int]:
    """The settings, and the port to publish: of the service that runs, else as set.

    Raises:
        SettingInvalid: if a setting of DNS is wrong.
    """
    problem = dnsrecords.problem_of(opened.settings)
    if problem:
        raise SettingInvalid(problem)
    running = listening.read(opened.folder)
    if running is None:
        return opened.settings, opened.settings.port
    return opened.settings._replace(listen=running.address), running.port


def described(opened: Opened) -> dict[str, Any]:
    """Publishing as `status` tells it: whether it is on, and the last result in each domain that matters."""
    found = opened.settings
    with opened.store.reading() as tx:
        published = {one.domain for one in sql.published(tx, opened.signer.kid)}
    try:
        wanted = [one.name for one in dnsrecords.domains_of(found.dns_domains)]
    except dnsrecords.Invalid:
        wanted = []
    last = {one.domain: one for one in publishing.results(opened.folder)}
    return {
        "publishing": found.dns_publishing,
        "domains": [
            _domain_json(name, last.get(name), published=name in published)
            for name in dict.fromkeys([*wanted, *sorted(published)])
        ],
        "records": None,
    }


def _domain_json(name: str, last: Result | None, *, published: bool) -> dict[str, Any]:
    return {
        "domain": name,
        "published": published,
        "code": last.code if last else None,
        "detail": last.detail if last else None,
        "server": last.server if last else None,
        "time": when(last.time) if last else None,
    }


def members(found: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as JSON-ready members."""
    return [{**one._asdict(), "done": one.done, "time": when(one.time)} for one in found]


def lines(found: Sequence[Result]) -> list[str]:
    """Results for people, with what to do next."""
    text = []
    for one in found:
        problem = PROBLEMS.get(one.code)
        if one.done or problem is None:
            text.append(f"{one.owner}: {_DONE.get(one.code, one.code)} {one.detail}".rstrip())
        else:
            text.append(f"{one.owner}: {one.code}: {problem.sentence} {one.detail}".rstrip())
            text.append(f"    {problem.next_step}")
    return text


_DONE = {publishing.OK: "published.", publishing.WITHDRAWN: "withdrawn."}


def is_published_again(opened: Opened) -> bool:
    """Whether a service runs that will publish what a command has withdrawn."""
    found = opened.settings
    return bool(found.dns_publishing and found.dns_domains and listening.read(opened.folder))


def brief(found: Mapping[str, Any]) -> str:
    """What `described` says, in a line."""
    if not found["publishing"]:
        return "publishing is off"
    said = [f"{one['domain']}: {one['code'] or 'not tried yet'}" for one in found["domains"]]
    return ", ".join(said) or "no domain is set: volact kmshost publish --show"


def prose(found: Mapping[str, Any]) -> list[str]:
    """What `described` says, in the words of rule S (`/dli`, `/dlv`)."""
    text = [f"DNS publishing {'enabled' if found['publishing'] else 'disabled'}"]
    for one in found["domains"]:
        result = f"{one['code']} at {one['time']}" if one["code"] else "not tried yet"
        text.append(f"    {one['domain']}: {result}")
    if found["records"] is not None:
        text.append(
            "Records to enter by hand:" if found["records"] else "No name of this machine to enter by hand."
        )
        text += [f"    {line}" for line in found["records"]]
    return text
