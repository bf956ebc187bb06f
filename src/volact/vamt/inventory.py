"""What VAMT knows of machines, and when two of what it was told are one (V1, V3). Pure.

- A *sighting* is what one source says of one machine: a directory, a zone, a range of addresses, a file.
- A *report* is what a machine says of itself when VAMT asks it. It is "reported"; what a lease or confirmation in it
  proves to the pinned root is "proved" (V2).
- A *machine* is a row. One machine found twice is one row: by CMID, then by machine identity, then by name and domain
  (V1). MAC addresses are shown and never decide: they repeat.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

HAND = "hand"
"""The source of what a person entered: it goes before all others where they differ."""
KNOWN_HOSTS = "known-hosts"
"""The source of what OpenSSH's known_hosts says."""
REVOKED = f"{KNOWN_HOSTS} revoked"
"""The source of host keys that a known_hosts file revokes, kept at the rows that had them: none is theirs again."""
FINGERPRINT = "SHA256:"
"""How a pin begins that is a host key's fingerprint, as ssh-keygen prints it, until the key itself was shown."""
WINDOWS = "microsoft"
"""The publisher of what Windows reports of itself. It is shown, and never tells machines apart: images repeat it."""
_NO_NAMES = frozenset(("", "localhost", "localhost4", "localhost6"))


class Sighting(NamedTuple):
    """What one source says of one machine.

    Attributes:
        source: ``ldap``, ``dns``, ``addresses``, ``csv``, ``known-hosts``, ``cil-xml`` or ``hand``.
        name: the host's name without its domain, lower case; empty if not known.
        domain: its domain, lower case, without a dot at the end; empty likewise.
        addresses: IPv4 and IPv6 addresses in their shortest form.
        port: the port of the remote access; None: the transport's own.
        transport: ``ssh``, ``winrm`` or ``local``; empty: not known, SSH is tried.
        platform: ``linux``, ``windows`` or another system's name; empty if not known.
        macs: hardware addresses, 12 hex digits, lower case.
        host_keys: SSH host keys as known_hosts writes them: ``ssh-ed25519 AAAA...``.
        group: the group that the source puts it in; empty for none.
    """

    source: str
    name: str = ""
    domain: str = ""
    addresses: tuple[str, ...] = ()
    port: int | None = None
    transport: str = ""
    platform: str = ""
    macs: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ()
    group: str = ""


class Product(NamedTuple):
    """One product on a machine, as ``volact client status --json`` names it (DESIGN section 5), or as Windows does.

    Attributes:
        publisher: publisher id; ``microsoft`` for what a Windows machine reports of Windows, read only.
        product: product id.
        state: 0 to 6 (rule E).
        cmid: the machine's identity for that publisher; empty if there is none.
        channel: ``mak``, ``retail`` or ``kms``, or Windows' own word.
        partial_key: last group of the key; empty if none is installed.
        granted: when the activation was granted, seconds UTC; None if it was not.
        expires: when the present state ends; None if it does not.
        host: host:port of the KMS host; empty if none.
        iid: the installation id of a pending request; empty if none.
        reason: why the state is what it is.
        grant: the lease's or confirmation's bundle, to be verified; None if the machine shows none.
    """

    publisher: str
    product: str
    state: int
    cmid: str = ""
    channel: str = ""
    partial_key: str = ""
    granted: int | None = None
    expires: int | None = None
    host: str = ""
    iid: str = ""
    reason: str = ""
    grant: Mapping[str, Any] | None = None


class Report(NamedTuple):
    """What a machine says of itself.

    Attributes:
        name: its host name without the domain, lower case.
        domain: its domain.
        platform: ``linux``, ``windows``.
        system: the operating system's name and version, for people.
        identity: digest of what firmware and system call themselves, 43 characters; empty if nothing is readable.
        virtual: whether it runs on a hypervisor.
        hypervisor: that one's name; empty if none or not known.
        host_identity: what the hypervisor calls the machine that it runs on; empty if it does not say.
        instances: how many virtual machines run on it now; None if it cannot say.
        macs: hardware addresses of its cards.
        products: its products.
    """

    name: str
    domain: str = ""
    platform: str = ""
    system: str = ""
    identity: str = ""
    virtual: bool = False
    hypervisor: str = ""
    host_identity: str = ""
    instances: int | None = None
    macs: tuple[str, ...] = ()
    products: tuple[Product, ...] = ()


class Seen(NamedTuple):
    """What one source said of a machine when it last spoke of it.

    Attributes:
        at: when, seconds UTC.
        named: whether it said a name; what only says an address may have met another machine there before.
        addresses: as in `Sighting`, and so are `port`, `transport`, `platform`, `macs` and `host_keys`.
    """

    at: int
    named: bool
    addresses: tuple[str, ...] = ()
    port: int | None = None
    transport: str = ""
    platform: str = ""
    macs: tuple[str, ...] = ()
    host_keys: tuple[str, ...] = ()

    @classmethod
    def of(cls, sighting: Sighting, at: int) -> Seen:
        """A sighting as it is kept."""
        return cls(
            at,
            bool(sighting.name),
            _sorted(sighting.addresses),
            sighting.port,
            sighting.transport,
            sighting.platform,
            _sorted(sighting.macs),
            _sorted(sighting.host_keys),
        )

    def after(self, before: Seen) -> Seen:
        """What a person says of a machine after they said something of it `before`: what they leave out now stays."""
        return Seen(
            self.at,
            self.named or before.named,
            self.addresses or before.addresses,
            self.port or before.port,
            self.transport or before.transport,
            self.platform or before.platform,
            self.macs or before.macs,
            self.host_keys or before.host_keys,
        )

    def joined(self, other: Seen) -> Seen:
        """The newer of two, or what both of one moment say together, in whichever order they came."""
        if self.at != other.at:
            return self if self.at > other.at else other
        return Seen(
            self.at,
            self.named or other.named,
            _sorted(self.addresses + other.addresses),
            max(self.port or 0, other.port or 0) or None,
            max(self.transport, other.transport),
            max(self.platform, other.platform),
            _sorted(self.macs + other.macs),
            _sorted(self.host_keys + other.host_keys),
        )


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


class Machine(NamedTuple):
    """A machine as VAMT knows it: one row.

    Attributes:
        mid: its id, 22 characters.
        name: its name without the domain; empty if only an address is known.
        domain: its domain; empty if not known.
        former: the full name that it had until another machine took it; empty otherwise.
        seen: by source, what that said last.
        aliases: other names (name, domain) that lead to it.
        cmids: its identities, (publisher, CMID) each.
        identity: digest of what firmware and system call themselves.
        report: what it said of itself last, without its products.
        collected: when it said that; None if it never did.
        first, last: when it was first and last found or heard of.
    """

    mid: str
    name: str = ""
    domain: str = ""
    former: str = ""
    seen: Mapping[str, Seen] = {}
    aliases: frozenset[tuple[str, str]] = frozenset()
    cmids: frozenset[tuple[str, str]] = frozenset()
    identity: str = ""
    report: Report | None = None
    collected: int | None = None
    first: int = 0
    last: int = 0

    @property
    def full_name(self) -> str:
        """``name.domain``, or what of the two is known."""
        return ".".join(filter(None, (self.name, self.domain)))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where it may be reached: what a source that knows names says goes before an older word by address alone."""
        newest = max((one.at for one in self.seen.values() if one.named and one.addresses), default=None)
        return _sorted(
            address
            for one in self.seen.values()
            if one.named or newest is None or one.at >= newest
            for address in one.addresses
        )

    @property
    def macs(self) -> tuple[str, ...]:
        """Hardware addresses that were seen or reported."""
        reported = self.report.macs if self.report else ()
        return _sorted((*reported, *(mac for one in self.seen.values() for mac in one.macs)))

    @property
    def host_keys(self) -> tuple[str, ...]:
        """Its SSH host keys: those entered by hand; else those that known_hosts said last; else what others say (T29).

        A person may enter a key's fingerprint instead. What a known_hosts file revoked is none.
        """
        by_hand = self.seen[HAND].host_keys if HAND in self.seen else ()
        return by_hand or self._known_host_keys() or self._host_keys(self.seen.values())

    @property
    def revoked(self) -> tuple[str, ...]:
        """SSH host keys that were its own, and are believed no more."""
        return self.seen[REVOKED].host_keys if REVOKED in self.seen else ()

    @property
    def port(self) -> int | None:
        """The port of its remote access; None: the transport's own."""
        return next((one.port for one in self._newest_first() if one.port), None)

    @property
    def transport(self) -> str:
        """How it is reached; empty: not known."""
        return next((one.transport for one in self._newest_first() if one.transport), "")

    @property
    def platform(self) -> str:
        """Its system's name: as it says itself, or as a source does."""
        reported = self.report.platform if self.report else ""
        return reported or next((one.platform for one in self._newest_first() if one.platform), "")

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that it was found by."""
        return _sorted(source.split()[0] for source in self.seen)

    def shows(self, host_key: str) -> bool:
        """Whether a host key that was shown is one of its own."""
        return is_pinned(host_key, self.host_keys)

    def _known_host_keys(self) -> tuple[str, ...]:
        known = [one for source, one in self.seen.items() if source.split()[0] == KNOWN_HOSTS]
        newest = max((one.at for one in known if self._host_keys([one])), default=None)
        return self._host_keys(one for one in known if one.at == newest)

    def _host_keys(self, said: Iterable[Seen]) -> tuple[str, ...]:
        return _sorted(key for one in said for key in one.host_keys if key not in self.revoked)

    def _newest_first(self) -> list[Seen]:
        order = sorted(
            self.seen.items(), key=lambda item: (item[0] == HAND, item[1].at, item[0]), reverse=True
        )
        return [one for _, one in order]


def fingerprint(host_key: str) -> str:
    """The SHA-256 fingerprint of a host key as known_hosts writes it, as ssh-keygen prints it; empty if it is none."""
    try:
        data = base64.b64decode(host_key.partition(" ")[2], validate=True)
    except (binascii.Error, ValueError):
        return ""
    return FINGERPRINT + base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("=") if data else ""


def is_pinned(host_key: str, pins: Collection[str]) -> bool:
    """Whether a host key that was shown is among those that are pinned, itself or by its fingerprint."""
    return bool(host_key) and (host_key in pins or fingerprint(host_key) in pins)


def known_name(report: Report) -> tuple[str, str]:
    """The name and domain that a report says; empty where a system has no name of its own yet."""
    return ("", "") if report.name in _NO_NAMES else (report.name, report.domain)


def identities(report: Report) -> frozenset[tuple[str, str]]:
    """The (publisher, CMID) pairs that a report says, of publishers whose CMIDs are keys of single machines."""
    return frozenset(
        (one.publisher, one.cmid) for one in report.products if one.cmid and one.publisher != WINDOWS
    )
