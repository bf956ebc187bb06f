"""The signed updates by which a host's records are put into a zone and taken out again (D1, D2, T18).

- Two hosts on one machine may have one name. As long as another host's record names it, its addresses stay: whoever
  stops first must not take the way to the other. An update that takes addresses away holds only while the set is as it
  was seen, so that of two hosts that stop at once the last one takes them.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from volact.kmshost import dnsrecords, nameserver
from volact.protocol.problems import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dns.update import UpdateMessage

    from volact.kmshost.dnsrecords import DnsRecord
    from volact.kmshost.nameserver import Deadline, Server
    from volact.tsig import Key

USUAL_LABELS = ("_volact._tcp", "_vlmcs._tcp")
"""Under which hosts are looked for (D1), whatever this one is set to."""


def publication(
    server: Server, key: Key, new: DnsRecord, mine: Sequence[DnsRecord], change: dnsrecords.Change
) -> UpdateMessage:
    """One update: the SRV record in the place of the host's own earlier ones, and its addresses."""
    update = nameserver.signed_update(server, key)
    if change.before is not None:
        nameserver.require(update, new.target, sorted(change.before))
    for earlier in mine:
        if earlier.srv != new.srv:
            nameserver.delete(update, earlier.owner, "SRV", earlier.srv)
    nameserver.add(update, new.owner, "SRV", new.srv)
    for one in change.delete:
        nameserver.delete(update, new.target, dnsrecords.type_of(one), one)
    for one in change.add:
        nameserver.add(update, new.target, dnsrecords.type_of(one), one)
    return update


class Removal(NamedTuple):
    """What takes a record out.

    Attributes:
        update: it, to be sent.
        addresses: those that it takes away besides: none while another host's record names them.
    """

    update: UpdateMessage
    addresses: tuple[str, ...]


def removal(
    server: Server, key: Key, mine: DnsRecord, labels: Iterable[str], deadline: Deadline, *, guarded: bool
) -> Removal:
    """What takes one of the host's records out, as others' records are now; `guarded` lets it hold only while they are.

    Raises:
        Unreachable: if the server does not say.
    """
    update = nameserver.signed_update(server, key)
    addresses: tuple[str, ...] = ()
    if mine.addresses:
        seen = nameserver.served(server, mine.owner, "SRV", deadline)
        addresses = () if sharing(server, mine, labels, deadline) else mine.addresses
        if guarded:
            nameserver.require_set(update, mine.owner, "SRV", sorted(seen))
    nameserver.delete(update, mine.owner, "SRV", mine.srv)
    for one in addresses:
        nameserver.delete(update, mine.target, dnsrecords.type_of(one), one)
    return Removal(update, addresses)


def sharing(server: Server, mine: DnsRecord, labels: Iterable[str], deadline: Deadline) -> list[str]:
    """The other SRV records of the domain that name the same target, under its own label, `labels` and the usual ones.

    Raises:
        Unreachable: if the server does not say what is under its own label.
    """
    found = []
    for label in dict.fromkeys((mine.label, *labels, *USUAL_LABELS)):
        owner = f"{label}.{mine.domain}"
        with contextlib.ExitStack() as stack:
            if label != mine.label:  # which may be another zone's
                stack.enter_context(contextlib.suppress(Unreachable))
            values = sorted(nameserver.served(server, owner, "SRV", deadline))
            found += [
                f"{owner} {value}"
                for value in values
                if value.split()[-1].rstrip(".") == mine.target and (owner, value) != (mine.owner, mine.srv)
            ]
    return found
