"""Machines from OpenSSH's known_hosts, with the host keys to pin (V1, T29; the format is of sshd(8)).

- A key that a line revokes is pinned nowhere, wherever it stands, and is taken off the machines that have it; a
  certificate authority's key is no machine's.
- A hashed name cannot be listed: such lines are left out and counted as one.
- Lines about one machine are one sighting: those of the same name and port; those of an address only, where exactly one
  named machine has it. Names on one line may be several machines that share a key, so each is one.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import IO, TYPE_CHECKING, NamedTuple

from volact.vamt.discovering import names
from volact.vamt.discovering.names import Found, Host, Skipped
from volact.vamt.inventory import Sighting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_LINE = 65_536
"""Bytes of a line that is read; a longer one is left out."""
_SSH_PORT, _MOST_PORT = 22, 65_535
_BRACKETED = re.compile(r"\[([^\]]+)\]:([0-9]{1,5})")
_KIND = re.compile(r"(?:ssh-|ecdsa-sha2-|sk-)[a-zA-Z0-9@.-]{1,60}")
_PATTERN = frozenset("*?!")
_HASHED = "|1|"
_REVOKED = "@revoked"
_LENGTH = 4


class _Line(NamedTuple):
    """A line that names hosts and a key."""

    number: int
    marker: str
    hosts: str
    key: str


class _Place(NamedTuple):
    """Where a machine is reached: its name, or its address if it has none; and the port."""

    host: Host
    address: str
    port: int


class _Machine(NamedTuple):
    """What the file says of a machine; the lists grow."""

    addresses: list[str]
    keys: list[str]


def discover(file: IO[bytes], group: str = "") -> Iterator[Found]:
    """The machines of a known_hosts file. Nothing in a line is an error: it is left out, with its number."""
    lines, hashed = [], []
    for number, found in enumerate(_read(file), 1):
        line = _line(number, found)
        if isinstance(line, Skipped):
            yield line
        elif line is not None and line.hosts.startswith(_HASHED) and not line.marker:
            hashed.append(number)
        elif line is not None:
            lines.append(line)
    gone = {line.key for line in lines if line.marker == _REVOKED}
    machines: dict[_Place, _Machine] = {}
    for line in lines:
        yield from _take(line, gone, machines)
    if hashed:
        yield Skipped(
            f"line {hashed[0]}",
            f"{len(hashed)} lines have hashed names (HashKnownHosts), which cannot be listed",
        )
    _join(machines)
    for place, machine in machines.items():
        yield _sighting(place, machine, group)


def revoked(file: IO[bytes]) -> list[str]:
    """The host keys that the lines of a known_hosts file revoke: they are to be taken off every machine (T29)."""
    lines = [_line(number, found) for number, found in enumerate(_read(file), 1)]
    return sorted({line.key for line in lines if isinstance(line, _Line) and line.marker == _REVOKED})


def _read(file: IO[bytes]) -> Iterator[bytes]:
    """The lines; of one that is too long a part that is longer than any line may be."""
    while line := file.readline(MOST_LINE + 1):
        rest = line
        while len(rest) > MOST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(MOST_LINE + 1)
        yield line


def _line(number: int, data: bytes) -> _Line | Skipped | None:
    where = f"line {number}"
    if len(data) > MOST_LINE:
        return Skipped(where, f"it is longer than {MOST_LINE:,} bytes")
    try:
        words = data.decode().split()
    except UnicodeDecodeError:
        return Skipped(where, "it is not UTF-8")
    if not words or words[0].startswith("#"):
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", _REVOKED, "@cert-authority"):
        return Skipped(where, f"{names.shown(marker)} is no marker")
    if len(words) >= 3 and words[1].isdigit():  # noqa: PLR2004 - host, bits, exponent
        return Skipped(where, "it is a key of SSH protocol 1")
    key = _key(words[1:3])
    if key is None:
        return Skipped(where, "it has no host key in the form of known_hosts")
    return _Line(number, marker, words[0], key)


def _key(words: Sequence[str]) -> str | None:
    """A host key as known_hosts writes it; None if it is none: its data must begin with its kind (RFC 4253 6.6)."""
    if len(words) != 2 or not _KIND.fullmatch(words[0]):  # noqa: PLR2004 - kind and data
        return None
    try:
        data = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        return None
    kind = words[0].encode()
    begin = len(kind).to_bytes(_LENGTH, "big") + kind
    return " ".join(words) if data.startswith(begin) and len(data) > len(begin) else None


def _take(line: _Line, revoked: set[str], machines: dict[_Place, _Machine]) -> Iterator[Skipped]:
    """Take a line's machines in, and say what of it was left out."""
    where = f"line {line.number}"
    if line.marker == "@cert-authority":
        yield Skipped(where, "it is a certificate authority's key, which names no machine")
    elif line.marker:
        yield Skipped(where, "its key is revoked, and pinned nowhere")
    elif line.key in revoked:
        yield Skipped(where, "its key is revoked by another line")
    else:
        places: list[_Place] = []
        for word in line.hosts.split(","):
            found = _place(word)
            if isinstance(found, str):
                yield Skipped(where, found)
            else:
                places.append(found)
        yield from _together(where, places, line.key, machines)


def _together(
    where: str, places: Sequence[_Place], key: str, machines: dict[_Place, _Machine]
) -> Iterator[Skipped]:
    named = _once([place for place in places if place.host.name])
    addresses = [place for place in places if place.address]
    for place in named:
        _machine(machines, place, key)
    if len(named) == 1:
        machine = machines[named[0]]
        for one in addresses:
            if one.port == named[0].port and one.address not in machine.addresses:
                machine.addresses.append(one.address)
    elif not named:
        for one in addresses:
            _machine(machines, one, key)
    elif addresses:
        yield Skipped(where, "its addresses may be of any of its names")


def _machine(machines: dict[_Place, _Machine], place: _Place, key: str) -> None:
    machine = machines.setdefault(place, _Machine([place.address] if place.address else [], []))
    if key not in machine.keys:
        machine.keys.append(key)


def _once(places: Sequence[_Place]) -> list[_Place]:
    """Names that differ; ``web`` beside ``web.corp.example`` is the same one."""
    whole = {(place.host.name, place.port) for place in places if place.host.domain}
    return list(
        dict.fromkeys(
            place for place in places if place.host.domain or (place.host.name, place.port) not in whole
        )
    )


def _place(word: str) -> _Place | str:
    """Where a word of a line leads, or why it leads nowhere."""
    if _PATTERN & set(word):
        return f"{names.shown(word)} is a pattern, and names no machine"
    text, port = word, _SSH_PORT
    bracketed = _BRACKETED.fullmatch(word)
    if bracketed is not None:
        text, port = bracketed[1], int(bracketed[2])
    if not 1 <= port <= _MOST_PORT:
        return f"{names.shown(word)} has no port from 1 to {_MOST_PORT}"
    address = names.address(text)
    if address is not None:
        return _Place(Host(""), address, port)
    host = names.host(text)
    return f"{names.shown(word)} is no host" if host is None else _Place(host, "", port)


def _join(machines: dict[_Place, _Machine]) -> None:
    """Give the keys of lines of an address only to the one named machine with that address."""
    owners: dict[tuple[str, int], list[_Machine]] = {}
    for place, machine in machines.items():
        if place.host.name:
            for address in machine.addresses:
                owners.setdefault((address, place.port), []).append(machine)
    for place in [place for place in machines if not place.host.name]:
        found = owners.get((place.address, place.port), [])
        if len(found) == 1:
            alone = machines.pop(place)
            found[0].keys.extend(key for key in alone.keys if key not in found[0].keys)


def _sighting(place: _Place, machine: _Machine, group: str) -> Sighting:
    port = None if place.port == _SSH_PORT else place.port
    return Sighting(
        "known-hosts",
        place.host.name,
        place.host.domain,
        tuple(machine.addresses),
        port,
        "ssh",
        host_keys=tuple(machine.keys),
        group=group,
    )
