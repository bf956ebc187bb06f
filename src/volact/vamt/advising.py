"""Advising: what VAMT knows of a network, for `advice` (V8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import jws, policy
from volact.vamt import advice, keyrecords, searching, selecting
from volact.vamt import store as sql
from volact.vamt.keys import candidate, publisher_of
from volact.vamt.recommending import MAK

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from volact.protocol.policy import Policy
    from volact.vamt.acting import Office
    from volact.vamt.advice import Advice, Network
    from volact.vamt.keyrecords import Installation
    from volact.vamt.people import Person
    from volact.vamt.recommending import Candidate

_SERVER = "server"


class Advised(NamedTuple):
    """What was looked at, and what is advised."""

    network: Network
    advice: Advice


class Told(NamedTuple):
    """What a person says of a network, in place of what was found; None where nothing is said."""

    isolated: bool = False
    machines: int | None = None
    servers: int | None = None


class Advising:
    """The use case of advice."""

    def __init__(self, office: Office) -> None:
        """Work in `office`."""
        self._office = office

    def advise(
        self, person: Person, told: Told, *, group: str = "", product: str = "", publisher: str = ""
    ) -> Advised:
        """Advise for a group, or all machines; for a product, of which those count that its KMS host would count.

        A machine is a server if a server product is on it, or if its system's name says so.

        Raises:
            Refused: `group-unknown`, `product-unknown`, `publisher-unknown`.
            UsageError: if several publishers have the product.
        """
        self._office.look(person)
        with self._office.store.reading() as tx:
            terms = selecting.terms_of(tx, "", group=group)
            machines = {one.number for one in searching.targets(tx, terms, self._office.clock.now())}
            network = self._network(tx, machines, product, publisher)
        network = network._replace(isolated=told.isolated)
        if told.servers is not None:
            network = network._replace(servers=told.servers, machines=max(network.machines, told.servers))
        if told.machines is not None:
            network = network._replace(machines=told.machines, servers=min(network.servers, told.machines))
        return Advised(network, advice.advise(network))

    def _network(self, tx: Connection, machines: set[int], product: str, publisher: str) -> Network:
        there = keyrecords.installations(tx, machines)
        known = {(one.pub, one.prd): one for one in sql.products(tx)}
        servers = {
            one for one, system in keyrecords.systems(tx, machines).items() if _SERVER in system.lower()
        }
        servers |= {
            one.machine
            for one in there
            if (one.pub, one.prd) in known and known[one.pub, one.prd].edition == _SERVER
        }
        keys = [candidate(one) for one in keyrecords.keys(tx)]
        rules, wanted = advice.USUAL, None
        if product:
            wanted = (publisher_of(tx, product, publisher), product)
            rules = _policy(known[wanted])
            counted = {
                one.machine
                for one in there
                if (one.pub, one.prd) in known
                and one.pub == wanted[0]
                and _policy(known[one.pub, one.prd]).count_group == rules.count_group
            }
            machines, servers = counted, servers & counted
        left = sum(
            one.remaining or 0
            for one in keys
            if one.kind == MAK and not one.blocked and (wanted is None or _fits(one, wanted))
        )
        return advice.Network(
            len(machines),
            len(servers),
            isolated=False,
            activated=_activated(there, wanted),
            left=left,
            policy=rules,
        )


def _fits(one: Candidate, wanted: tuple[str, str]) -> bool:
    return one.pub == wanted[0] and wanted[1] == one.product


def _activated(there: list[Installation], wanted: tuple[str, str] | None) -> int:
    """Machines with a permanent activation, of the wanted product if there is one."""
    return len({one.machine for one in there if one.activated and wanted in (None, (one.pub, one.prd))})


def _policy(product: sql.Product) -> Policy:
    """The policy in a product's document, which was verified when it was taken in."""
    claims = jws.read_json(jws.split(product.bundle["token"], limit=jws.MAX_BYTES_LARGE).payload)
    return policy.read(claims["pol"], claims["edition"])
