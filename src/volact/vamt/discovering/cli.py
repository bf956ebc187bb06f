"""``volact vamt discover``: machines from a directory, DNS, addresses and files (V1).

- What a source says is taken in as it comes; with ``--dry-run`` it is shown, and VAMT need not be set up.
- A password or a key is read from a file or standard input, never from an argument (T28).
- What a source left out is counted, and the first of it said with where and why.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from cyclopts import Parameter

from volact import commands
from volact.commands import WHOLE, Json
from volact.console import Console, credential_argument, table
from volact.protocol.problems import BrokenData, Refusal, Refused, Unreachable, UsageError
from volact.vamt.discovering import atonce
from volact.vamt.discovering.names import Skipped
from volact.vamt.views import check_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from volact.vamt.discovering.asking import Progress
    from volact.vamt.discovering.names import Found
    from volact.vamt.inventory import Sighting

app = commands.group("discover", "Find machines: in a directory, DNS, address ranges, files.")

SHOWN = 1000
"""Sightings that a dry run shows, and left-out rows that --json has."""
_SAID = 10
"""Left-out rows that are said on standard error."""
_STEP = 1000
"""Addresses between two words about progress."""
_MOST_LIST, _MOST_PORT, _MOST_TIMEOUT = 8 * 1024 * 1024, 65_535, 60
T = TypeVar("T")

Group = Annotated[str, Parameter(help="A group to put the machines into.", allow_leading_hyphen=True)]
DryRun = Annotated[bool, Parameter(help="Show what is found, and take nothing in.")]


@app.command
def ldap(
    url: Annotated[str, Parameter(name="URL", help="ldap://HOST[:PORT] (StartTLS) or ldaps://HOST[:PORT].")],
    /,
    *,
    base: Annotated[str, Parameter(help="The DN below which the machines stand.")],
    account: Annotated[str, Parameter(help="The DN or name to sign in as; without it as nobody.")] = "",
    password: Annotated[
        str, Parameter(help="Its password: - (standard input) or @FILE.", allow_leading_hyphen=True)
    ] = "",
    ca: Annotated[Path | None, Parameter(help="The CA of the server's certificate (PEM).")] = None,
    plain: Annotated[bool, Parameter(help="UNSAFE: ldap:// without TLS; the password can be read.")] = False,
    filter: Annotated[str, Parameter(help="An LDAP filter for machines.")] = "",  # noqa: A002 - its name
    name: Annotated[str, Parameter(help="Only machines of this name; * stands for any text.")] = "",
    group: Group = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Find machines in a directory, such as Active Directory, Samba or OpenLDAP."""
    from volact.vamt.discovering import ldap as source

    directory = source.Directory(
        url,
        base,
        account,
        credential_argument(password, "--password"),
        ca,
        plain,
        filter or source.COMPUTERS,
        name,
    )
    found = source.discover(directory, group=_group(group))
    _take(Console(json=json), f"ldap {source.place(url)}", found, dry_run=dry_run)


@app.command
def dns(
    zone: Annotated[str, Parameter(name="ZONE", help="A zone to transfer; also a reverse zone.")] = "",
    /,
    *,
    server: Annotated[str, Parameter(help="The name server: name or address.")],
    port: Annotated[int, WHOLE, Parameter(help="Its port; by default 53.")] = 53,
    key: Annotated[
        str,
        Parameter(
            help="A TSIG key, [ALGORITHM:]NAME:SECRET or what tsig-keygen writes: - (standard input) or @FILE.",
            allow_leading_hyphen=True,
        ),
    ] = "",
    reverse: Annotated[
        str,
        Parameter(help="Ask for the names of these addresses instead: 192.0.2.0/24, 192.0.2.1-50, @FILE."),
    ] = "",
    group: Group = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Find machines in a DNS zone by a zone transfer; or by the names of addresses, one by one."""
    from volact.vamt.discovering import walking, zones

    if bool(zone) is bool(reverse):
        raise UsageError("Give either a ZONE or --reverse.")
    if reverse and key:
        raise UsageError("--key is for a zone transfer.")
    _port(port, "--port")
    console, where, into = Console(json=json), zones.Server(server, port), _group(group)
    if reverse:
        addresses = _addresses((reverse,))
        tell = _telling(console)
        walk = walking.discover(addresses, where, lambda one: tell(one.asked, one.total), group=into)
        _take(console, f"dns {server[:200]} --reverse", walk, dry_run=dry_run)
        return
    signed = zones.read_key(credential_argument(key, "--key", whole=True)) if key else None
    found = zones.discover(zone, where, signed, group=into)
    _take(console, f"dns {zone[:200]}", found, dry_run=dry_run)


@app.command
def addresses(
    *ranges: Annotated[
        str, Parameter(name="RANGE", help="192.0.2.7, 192.0.2.0/24, 192.0.2.1-50, 2001:db8::/120, @FILE.")
    ],
    ssh_port: Annotated[int, WHOLE, Parameter(help="The port of SSH; by default 22.")] = 22,
    winrm_port: Annotated[
        int | None, WHOLE, Parameter(help="The port of WinRM; by default 5986 and 5985.")
    ] = None,
    timeout: Annotated[int, WHOLE, Parameter(help="Seconds for one address; by default 2.")] = 2,
    group: Group = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Find machines among addresses: those where SSH or WinRM answers. Nothing else is called, nothing is sent."""
    from volact.vamt.discovering import asking

    winrm = asking.WINRM if winrm_port is None else (winrm_port,)
    _port(ssh_port, "--ssh-port")
    for one in winrm:
        _port(one, "--winrm-port")
    if not 1 <= timeout <= _MOST_TIMEOUT:
        raise UsageError(f"--timeout is 1 to {_MOST_TIMEOUT} seconds.")
    listed, into = _addresses(ranges), _group(group)
    console = Console(json=json)
    tell = _telling(console)
    limits = asking.Limits(patience=timeout)

    async def found() -> AsyncGenerator[Found, None]:
        counts: list[Progress] = []

        def hear(progress: Progress) -> None:
            counts[:] = [progress]
            tell(progress.asked, progress.total)

        async for one in asking.discover(listed, hear, asking.Ports(ssh_port, winrm), limits, into):
            yield one
        (last,) = counts
        if last.no_route == last.total:
            raise Unreachable(Refusal("network-unreachable", f"None of {last.total} could be called."))
        console.remark(
            f"{last.total} addresses: {last.open} answer, {last.closed} have no such port open,"
            f" {last.silent} are silent, to {last.no_route} there is no way"
        )

    _take(console, f"addresses {' '.join(ranges)[:200]}", found(), dry_run=dry_run)


@app.command
def csv(
    file: Annotated[
        Path, Parameter(name="FILE", help="Its first line names columns: name, domain, address ...")
    ],
    /,
    *,
    group: Group = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Find machines in a CSV file.

    Columns, in any order: name, domain, address, port, transport, group, mac, platform. Commas, semicolons or TABs stand
    between them. The whole file is looked through before anything of it is taken in.
    """
    from volact.vamt.discovering import listed

    console, into = Console(json=json), _group(group)
    try:
        with file.open("rb") as opened:
            if not dry_run and opened.seekable():
                for _ in listed.discover(opened):
                    pass
                opened.seek(0)
            _take(console, f"csv {file.name[:200]}", listed.discover(opened, into), dry_run=dry_run)
    except OSError as error:
        raise commands.not_readable(file, error) from None


@app.command
def known_hosts(
    file: Annotated[Path | None, Parameter(name="FILE", help="By default ~/.ssh/known_hosts.")] = None,
    /,
    *,
    group: Group = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Find machines in OpenSSH's known_hosts; their host keys are pinned, so that no other machine can take their place.

    A key that a line marks @revoked is taken off every machine that is known.
    """
    from volact.vamt.discovering import knownhosts

    path, into = file or Path("~/.ssh/known_hosts").expanduser(), _group(group)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise commands.not_readable(path, error) from None
    found, revoked = list(knownhosts.discover(BytesIO(data), into)), knownhosts.revoked(BytesIO(data))
    console, source = Console(json=json), f"known-hosts {path.name[:200]}"
    if revoked and not dry_run:
        from volact.vamt import desk

        with desk.desk() as at:
            count = at.vamt.machines.revoke_keys(at.person, revoked, source)
        console.remark(f"revoked: {len(revoked)} host keys, taken off {count} machines")
    _take(console, source, found, dry_run=dry_run)


# --- taking in ----------------------------------------------------------------------------------------------------


class _Heard:
    """What a source yields, parted: sightings pass through, and what was left out is counted and begun to be kept."""

    def __init__(self) -> None:
        self.found = 0
        self.skipped = 0
        self.left_out: list[Skipped] = []

    def only_sightings(self, found: Iterable[Found | None]) -> Iterator[Sighting | None]:
        for one in found:
            if isinstance(one, Skipped):
                self.skipped += 1
                if len(self.left_out) < SHOWN:
                    self.left_out.append(one)
            else:
                self.found += one is not None
                yield one

    def say(self, console: Console) -> dict[str, object]:
        """Say what was left out; its members of the answer."""
        for one in self.left_out[:_SAID]:
            console.remark(f"left out: {one.where}: {one.reason}")
        if self.skipped > _SAID:
            console.remark(f"left out: {self.skipped - _SAID} more; --json shows up to {SHOWN}")
        return {"skipped": self.skipped, "left_out": [one._asdict() for one in self.left_out]}


def _take(
    console: Console, source: str, found: Iterable[Found] | AsyncGenerator[Found, None], *, dry_run: bool
) -> None:
    """Take in what a source says, or show it; and answer what became of it."""
    heard = _Heard()
    if dry_run:
        _show(console, heard, _given(found, lambda all_: _first(heard.only_sightings(all_))))
        return
    from volact.vamt import desk

    with desk.desk() as at:
        taken = _given(
            found,
            lambda all_: at.vamt.machines.take_sightings(
                at.person, heard.only_sightings(all_), source=source
            ),
        )
    answer = {"found": heard.found, **taken._asdict(), **heard.say(console)}
    if not heard.found:
        console.answer(answer, f"found: nothing ({heard.skipped} rows were left out)")
        return
    console.answer(
        answer,
        f"found: {taken.machines} machines, {taken.new} of them new; {heard.skipped} rows were left out"
        + (f"; {taken.dropped} may be any of several machines" if taken.dropped else "")
        + "\nNext: volact vamt machine list",
    )


def _show(console: Console, heard: _Heard, shown: list[Sighting]) -> None:
    answer = {"found": heard.found, **heard.say(console), "sightings": [one._asdict() for one in shown]}
    rows = [
        (
            one.name,
            one.domain,
            " ".join(one.addresses),
            one.transport,
            str(one.port or ""),
            one.platform,
            one.group,
        )
        for one in shown
    ]
    head = ("name", "domain", "addresses", "transport", "port", "platform", "group")
    more = f"\n{heard.found - len(shown)} more" if heard.found > len(shown) else ""
    prose = table(rows, head) + more if rows else f"found: nothing ({heard.skipped} rows were left out)"
    console.answer(answer, prose)


def _given(
    found: Iterable[Found] | AsyncGenerator[Found, None], take: Callable[[Iterable[Found | None]], T]
) -> T:
    """What `take` comes to with what a source yields; one that asks around is not held up by it."""
    if isinstance(found, AsyncGenerator):
        return asyncio.run(atonce.kept(found, take))
    return take(found)


def _first(sightings: Iterator[Sighting | None]) -> list[Sighting]:
    """The first of them, and all of them heard."""
    there = (one for one in sightings if one is not None)
    first = list(itertools.islice(there, SHOWN))
    for _ in there:
        pass
    return first


# --- arguments ----------------------------------------------------------------------------------------------------


def _telling(console: Console) -> Callable[[int, int], None]:
    """What says how far it is, every so many addresses."""

    def tell(asked: int, total: int) -> None:
        if asked and asked % _STEP == 0:
            console.remark(f"asked {asked} of {total} addresses")

    return tell


def _group(name: str) -> str:
    return check_name(name, "group") if name else ""


def _port(number: int, option: str) -> None:
    if not 1 <= number <= _MOST_PORT:
        raise UsageError(f"{option} is 1 to {_MOST_PORT}.")


def _addresses(texts: Iterable[str]) -> list[str]:
    """The addresses of all ranges, a file's among them.

    Raises:
        UsageError: if a typed range is malformed, or there is none.
    """
    from volact.vamt.discovering import ranges

    parts = []
    for text in texts:
        if text.startswith("@"):
            parts.append(_list(Path(text[1:])))
            continue
        try:
            ranges.read(text)
        except Refused as error:
            if error.refusal.code != "list-malformed":
                raise
            raise UsageError(error.refusal.detail) from None
        parts.append(text)
    found = ranges.addresses("\n".join(parts))
    if not found:
        raise UsageError("No address is named.", "Give 192.0.2.0/24, 192.0.2.1-50, or @FILE.")
    return found


def _list(path: Path) -> str:
    data = commands.read(path, _MOST_LIST)
    if len(data) > _MOST_LIST:
        raise BrokenData(f"{path} is larger than {_MOST_LIST} bytes.", "not-readable")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BrokenData(f"{path} is not text.", "not-readable") from None
    from volact.vamt.discovering import ranges

    try:
        ranges.read(text)
    except Refused as error:
        where = f"{path}: {error.refusal.detail}"
        raise Refused(error.refusal._replace(detail=where)) from None
    return text
