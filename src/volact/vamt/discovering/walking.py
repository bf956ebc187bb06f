"""The names of addresses, asked one by one: for where a zone transfer is refused (V1).

- Each listed address gets one PTR question, so many at once and PATIENCE seconds each.
- A name server that answers nothing is given up after the first few questions, or when it falls silent, not after all.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.reversename

from volact.protocol.problems import Refusal, Refused
from volact.vamt.discovering import names, zones
from volact.vamt.discovering.atonce import each
from volact.vamt.discovering.names import Found, Skipped
from volact.vamt.inventory import Sighting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from volact.vamt.discovering.zones import Server

PATIENCE = (1.0, 2.0)
"""Seconds for the first try and for the second, as a datagram may be lost."""
AT_ONCE = 64
GIVEN_UP = 3
"""After so many first questions of which none was answered, the server is taken for dead."""
MOST_SILENT = 2 * AT_ONCE
"""After so many questions in a row that were not answered, likewise."""
_REFUSED = "the name server refuses the question"
_NO_ANSWER = "the name server did not answer"
_NONSENSE = "the name server's answer is none"


class Progress(NamedTuple):
    """How far it is: addresses in all, asked, with a name, not answered."""

    total: int
    asked: int = 0
    named: int = 0
    silent: int = 0


async def discover(
    addresses: Sequence[str],
    server: Server,
    tell: Callable[[Progress], None],
    patience: Sequence[float] = PATIENCE,
    group: str = "",
) -> AsyncGenerator[Found, None]:
    """The machines that addresses point to, as the answers come.

    Raises:
        Unreachable: `name-server-unreachable`.
        Refused: `transfer-refused`, if it answers no such questions.
    """
    if not addresses:
        return
    where = await _answering(addresses, server, patience)

    async def ask(address: str) -> list[str] | str:
        return await _names(address, where, server.port, patience)

    progress, in_a_row = Progress(len(addresses)), 0
    tell(progress)
    async with contextlib.aclosing(each(addresses, ask, AT_ONCE)) as answers:
        async for address, found in answers:
            in_a_row = in_a_row + 1 if found == _NO_ANSWER else 0
            progress = _counted(progress, found)
            tell(progress)
            if isinstance(found, str):
                yield Skipped(address, found)
            else:
                for one in found:
                    yield _sighting(address, one, group)
            if in_a_row >= MOST_SILENT:
                raise zones.unreachable(f"{server} has fallen silent.")


def _counted(progress: Progress, found: list[str] | str) -> Progress:
    progress = progress._replace(asked=progress.asked + 1)
    if isinstance(found, str):
        return progress._replace(silent=progress.silent + 1)
    return progress._replace(named=progress.named + bool(found))


def _sighting(address: str, pointer: str, group: str) -> Found:
    host = names.host(pointer)
    if host is None:
        return Skipped(address, f"it points to {names.shown(pointer)}, which is no name of a host")
    return Sighting("dns", host.name, host.domain, (address,), group=group)


async def _answering(addresses: Sequence[str], server: Server, patience: Sequence[float]) -> str:
    """The address of the server that answers the first questions."""
    for where in zones.resolved(server):
        for address in addresses[:GIVEN_UP]:
            found = await _names(address, where, server.port, patience)
            if found == _REFUSED:
                raise Refused(
                    Refusal("transfer-refused", f"{server} does not answer questions for {address}.")
                )
            if found not in (_NO_ANSWER, _NONSENSE):
                return where
    raise zones.unreachable(f"{server} did not answer.")


async def _names(address: str, where: str, port: int, patience: Sequence[float]) -> list[str] | str:
    """The names that an address points to, or why that is not known."""
    query = dns.message.make_query(dns.reversename.from_address(address), "PTR")
    for seconds in patience:
        try:
            answer, _ = await dns.asyncquery.udp_with_fallback(
                query, where, timeout=seconds, port=port, ignore_unexpected=True
            )
        except dns.exception.Timeout:
            continue
        except (OSError, EOFError):
            return _NO_ANSWER
        except (dns.exception.DNSException, ValueError):
            return _NONSENSE
        return _read(answer)
    return _NO_ANSWER


def _read(answer: dns.message.Message) -> list[str] | str:
    code = answer.rcode()
    if code == dns.rcode.REFUSED:
        return _REFUSED
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return f"the name server says {dns.rcode.to_text(code)}"
    return [
        record.target.to_text(omit_final_dot=True)
        for rrset in answer.answer
        if rrset.rdtype == dns.rdatatype.PTR
        for record in rrset
    ]
