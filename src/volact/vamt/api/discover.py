"""The API's routes of discovery: machines from a directory, DNS, addresses and files, as undertakings (V1).

Nothing is asked before the person's role and what they gave were looked at; passwords and keys come in the body, and are
kept nowhere.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from litestar import Response, post
from litestar.params import JSONBody  # noqa: TC002 - Litestar reads the annotations

from volact.protocol.problems import Refusal, Unreachable, UsageError
from volact.vamt.api import bodies  # noqa: TC001 - as above
from volact.vamt.api import rows as apirows  # noqa: TC001 - as above
from volact.vamt.api.desk import At, By  # noqa: TC001 - as above
from volact.vamt.api.work import begun
from volact.vamt.discovering import atonce
from volact.vamt.discovering.names import Skipped
from volact.vamt.views import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from volact.vamt.api.works import Work
    from volact.vamt.discovering.asking import Progress
    from volact.vamt.discovering.names import Found
    from volact.vamt.inventory import Sighting
    from volact.vamt.machines import Taken

_MOST_LEFT_OUT = 1000
_WHAT = "discover"


@post("/discoveries/ldap", sync_to_thread=True, status_code=202)
def discover_ldap(desk: At, person: By, data: JSONBody[bodies.DiscoverLdap]) -> Response[apirows.Undertaking]:
    """Find machines in a directory, such as Active Directory, Samba or OpenLDAP."""
    from volact.vamt.discovering import ldap as source  # noqa: PLC0415 - ldap3 is for this alone

    desk.works.permit(person, _WHAT, {"source": "ldap"})  # not the address yet: it may have a password in it
    told = f"ldap {source.place(data.url)}"
    directory = source.Directory(
        data.url,
        data.base,
        data.account,
        data.password,
        None,
        data.plain,
        data.filter or source.COMPUTERS,
        data.name,
    )
    group = _group(data.group)
    return _begin(desk, person, told, lambda: source.discover(directory, group=group))


@post("/discoveries/dns", sync_to_thread=True, status_code=202)
def discover_dns(desk: At, person: By, data: JSONBody[bodies.DiscoverDns]) -> Response[apirows.Undertaking]:
    """Find machines in a DNS zone by a zone transfer."""
    from volact.vamt.discovering import zones  # noqa: PLC0415 - dnspython is for this alone

    desk.works.permit(person, _WHAT, {"source": f"dns {data.zone[:200]}"})
    key = zones.read_key(data.key) if data.key else None
    server, group = zones.Server(data.server, data.port), _group(data.group)
    return _begin(
        desk,
        person,
        f"dns {data.zone[:200]}",
        lambda: zones.discover(data.zone, server, key, group=group),
    )


@post("/discoveries/addresses", sync_to_thread=True, status_code=202)
def discover_addresses(
    desk: At, person: By, data: JSONBody[bodies.DiscoverAddresses]
) -> Response[apirows.Undertaking]:
    """Find machines among addresses: those where SSH or WinRM rows. Nothing else is called, nothing is sent."""
    from volact.vamt.discovering import asking, ranges  # noqa: PLC0415 - as above

    source = f"addresses {data.ranges[:200]}"
    desk.works.permit(person, _WHAT, {"source": source})
    listed, group = ranges.addresses(data.ranges), _group(data.group)
    if not listed:
        raise UsageError("No address is named: give 192.0.2.0/24, 192.0.2.1-50 or the like.")
    winrm = asking.WINRM if data.winrm_port is None else (data.winrm_port,)
    ports, limits = asking.Ports(data.ssh_port, winrm), asking.Limits(patience=data.timeout)

    def run(work: Work) -> dict[str, Any]:
        counts: list[Progress] = []

        def hear(progress: Progress) -> None:
            counts[:] = [progress]
            work.done, work.total = progress.asked, progress.total

        def keep(found: Iterator[Sighting | None]) -> Taken:
            return desk.vamt.machines.take_sightings(person, found, source=source)

        taken = work.run(atonce.kept(asking.discover(listed, hear, ports, limits, group), keep))
        last = counts[0]
        if last.no_route == last.total:
            raise Unreachable(Refusal("network-unreachable", f"None of {last.total} could be called."))
        return {**taken._asdict(), "skipped": 0, **last._asdict()}

    return begun(desk.works.start(person, _WHAT, {"source": source}, run))


@post("/discoveries/file", sync_to_thread=True, status_code=202)
def discover_file(desk: At, person: By, data: JSONBody[bodies.DiscoverFile]) -> Response[apirows.Undertaking]:
    """Find machines in a CSV file or OpenSSH's known_hosts; a CSV is looked through before any of it is taken in."""
    from volact.vamt.discovering import knownhosts, listed  # noqa: PLC0415 - as above

    source, group = f"{data.kind} {data.name[:200]}", _group(data.group)
    desk.works.permit(person, _WHAT, {"source": source})
    text = data.text.encode("utf-8")
    if data.kind == "csv":
        for _ in listed.discover(io.BytesIO(text)):
            pass
        return _begin(desk, person, source, lambda: listed.discover(io.BytesIO(text), group))
    revoked = knownhosts.revoked(io.BytesIO(text))
    return _begin(desk, person, source, lambda: knownhosts.discover(io.BytesIO(text), group), revoked)


def _group(name: str) -> str:
    return check_name(name, "group") if name else ""


def _begin(
    desk: At, person: By, source: str, discover: Callable[[], Iterable[Found]], revoked: Sequence[str] = ()
) -> Response[apirows.Undertaking]:
    def run(work: Work) -> dict[str, Any]:
        desk.vamt.machines.revoke_keys(person, revoked, source)
        heard = _Heard(work)
        taken = desk.vamt.machines.take_sightings(
            person, heard.sightings(discover()), source=source, tell=lambda done: work.tell(done, None)
        )
        work.done, work.total = taken.sightings, taken.sightings
        return {**taken._asdict(), "skipped": heard.skipped}

    return begun(desk.works.start(person, _WHAT, {"source": source}, run))


class _Heard:
    """What a source yields: sightings pass through, and what was left out is a row of the undertaking."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.skipped = 0

    def sightings(self, found: Iterable[Found]) -> Iterator[Sighting]:
        for one in found:
            self._work.check()
            if not isinstance(one, Skipped):
                yield one
                continue
            self.skipped += 1
            if self.skipped <= _MOST_LEFT_OUT:
                row = dict.fromkeys(("id", "product", "key", "code", "next"))
                said = {"machine": one.where, "operation": _WHAT, "state": "left-out", "detail": one.reason}
                self._work.add([{**row, **said}])


ROUTES: list[Any] = [discover_ldap, discover_dns, discover_addresses, discover_file]
