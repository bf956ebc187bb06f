"""Advising: what VAMT knows of a network, for `advice` (V8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from volact.protocol import jws, policy
from volact.vamt import advice, census, keyrecords, selecting
from volact.vamt import store as sql
from volact.vamt.keys import candidate, publisher_of
from volact.vamt.recommending import MAK

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from volact.protocol.policy import Policy
    from volact.vamt.acting import Office
    from volact.vamt.advice import Advice, Network
    from volact.vamt.people import Person

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
            within = selecting.named_group(tx, group) if group else None
            network = self._network(tx, within, product, publisher)
        network = network._replace(isolated=told.isolated)
        if told.servers is not None:
            network = network._replace(servers=told.servers, machines=max(network.machines, told.servers))
        if told.machines is not None:
            network = network._replace(machines=told.machines, servers=min(network.servers, told.machines))
        return Advised(network, advice.advise(network))

    def _network(self, tx: Connection, group: int | None, product: str, publisher: str) -> Network:
        known = {(one.pub, one.prd): one for one in sql.products(tx)}
        rules, wanted, counted = advice.USUAL, None, None
        if product:
            wanted = (publisher_of(tx, product, publisher), product)
            rules = _policy(known[wanted])
            counted = [
                (pub, prd)
                for (pub, prd), one in known.items()
                if pub == wanted[0] and _policy(one).count_group == rules.count_group
            ]
        servers = [same for same, one in known.items() if one.edition == _SERVER]
        found = census.take(tx, group, servers, counted, wanted)
        left = sum(
            one.remaining or 0
            for one in map(candidate, keyrecords.keys(tx))
            if one.kind == MAK and not one.blocked and wanted in (None, (one.pub, one.product))
        )
        return advice.Network(
            found.machines,
            found.servers,
            isolated=False,
            activated=found.activated,
            left=left,
            policy=rules,
        )


def _policy(product: sql.Product) -> Policy:
    """The policy in a product's document, which was verified when it was taken in."""
    claims = jws.read_json(jws.split(product.bundle["token"], limit=jws.MAX_BYTES_LARGE).payload)
    return policy.read(claims["pol"], claims["edition"])
