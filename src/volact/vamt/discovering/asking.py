"""Which of some addresses have a port open that VAMT can use: SSH's, WinRM's. By a TCP connect and nothing else (V1).

- Only the addresses that were given are called; nothing is sent.
- So many connects at once as `Limits` says, and no more than the system lets a process have files.
- A machine with WinRM is a Windows machine and asked by WinRM, for only that reads Windows' licence states (V2).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import resource
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from volact.protocol.problems import BrokenData
from volact.vamt.discovering.atonce import each
from volact.vamt.inventory import Sighting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

SSH, WINRM = 22, (5986, 5985)
OPEN, CLOSED, SILENT, NO_ROUTE = "open", "closed", "silent", "no-route"
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_OWN_FILES = 64
"""Files that the process needs beside the connections."""


class Ports(NamedTuple):
    """Which ports are asked. The first open one of WinRM's counts: 5986 has TLS."""

    ssh: int = SSH
    winrm: tuple[int, ...] = WINRM


class Limits(NamedTuple):
    """How hard it is asked.

    Attributes:
        at_once: addresses at a time.
        patience: seconds for one connect.
    """

    at_once: int = 200
    patience: float = 2.0


class Progress(NamedTuple):
    """How far it is: addresses.

    Attributes:
        total: how many there are.
        open: so many had a port open.
        closed: so many answered, but had none open.
        silent: so many did not answer.
        no_route: to so many there is no way from here.
    """

    total: int
    open: int = 0
    closed: int = 0
    silent: int = 0
    no_route: int = 0

    @property
    def asked(self) -> int:
        """How many were asked so far."""
        return self.open + self.closed + self.silent + self.no_route


async def discover(
    addresses: Sequence[str],
    tell: Callable[[Progress], None],
    ports: Ports = Ports(),  # noqa: B008 - a value
    limits: Limits = Limits(),  # noqa: B008 - a value
    group: str = "",
) -> AsyncGenerator[Sighting, None]:
    """The addresses at which a port answers, as they answer; `tell` hears of each one that was asked."""
    asked = (ports.ssh, *ports.winrm)

    async def ask(address: str) -> tuple[str, ...]:
        return tuple(await asyncio.gather(*[_ask(address, port, limits.patience) for port in asked]))

    progress = Progress(len(addresses))
    tell(progress)
    at_once = min(limits.at_once, max(1, (_most_files() - _OWN_FILES) // len(asked)))
    async with contextlib.aclosing(each(addresses, ask, at_once)) as answers:
        async for address, found in answers:
            progress = _counted(progress, found)
            tell(progress)
            if OPEN in found:
                yield _sighting(address, ports, dict(zip(asked, found, strict=True)), group)


def _counted(progress: Progress, found: Sequence[str]) -> Progress:
    if OPEN in found:
        return progress._replace(open=progress.open + 1)
    if CLOSED in found:
        return progress._replace(closed=progress.closed + 1)
    if SILENT in found:
        return progress._replace(silent=progress.silent + 1)
    return progress._replace(no_route=progress.no_route + 1)


def _sighting(address: str, ports: Ports, found: dict[int, str], group: str) -> Sighting:
    winrm = next((port for port in ports.winrm if found[port] == OPEN), None)
    if winrm is not None:
        return Sighting("addresses", "", "", (address,), winrm, "winrm", "windows", group=group)
    return Sighting(
        "addresses", "", "", (address,), None if ports.ssh == SSH else ports.ssh, "ssh", group=group
    )


async def _ask(address: str, port: int, patience: float) -> str:
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            async with asyncio.timeout(patience):
                await asyncio.get_running_loop().sock_connect(connection, (address, port))
            return OPEN
    except TimeoutError:  # ours, and the system's own ETIMEDOUT
        return SILENT
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise BrokenData(
                "There are more files open here than the system allows.", "not-readable"
            ) from None
        return NO_ROUTE if error.errno in _NO_ROUTE else CLOSED


def _most_files() -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if most == resource.RLIM_INFINITY else most
