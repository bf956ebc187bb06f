"""Two VAMTs that share nothing but files, a real authority that only the outer one reaches, and machines that ask."""

from __future__ import annotations

import io
import json
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import pytest

import authority_site
from databases import KINDS
from vamt.site import ADMINISTRATOR, OPERATOR, Site, product
from volact.authority import records as authority_records
from volact.authority import statuslist
from volact.calls import Answer
from volact.protocol import machine as hardware
from volact.protocol.problems import Refusal
from volact.vamt import records, schema, selecting
from volact.vamt.acquiring import Acquired, Acquiring
from volact.vamt.applying import Applied, Applying
from volact.vamt.intake import Intake, Taken
from volact.vamt.inventory import Sighting
from volact.vamt.proxy import Exported, Proxy, Said
from volact.vamt.records import Installed
from volact.vamt.selecting import Selection
from world import PRODUCT, Machine, claims_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from volact.protocol.keys import ProductKey
    from volact.vamt.applying import Work
    from volact.vamt.searching import Target

ADDRESS = "https://authority.test"
ALL = Selection(all=True)
ON_BOTH = pytest.mark.parametrize("trip", KINDS, indirect=True)
"""The test is done with VAMTs on each kind of database."""


class Wire:
    """The authority's two addresses, answered by the authority itself in this process."""

    def __init__(self, site: authority_site.Site) -> None:
        self.site = site
        self.batches: list[int] = []
        self.after: Exception | None = None  # raised at the second batch

    def __call__(self, url: str, pins: Sequence[str]) -> Self:
        assert (url, tuple(pins)) == (ADDRESS, ())
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def post(self, path: str, body: Any) -> Answer:
        assert path == "/v1/requests"
        if self.after and self.batches:
            raise self.after
        self.batches.append(len(body["requests"]))
        said = [
            one.document() if isinstance(one, Refusal) else one for one in self.site.ask(*body["requests"])
        ]
        return Answer(200, {}, json.dumps({"answers": said}).encode())

    def get(self, path: str) -> Answer:
        assert path == "/v1/status"
        with self.site.store.reading() as tx:
            found = authority_records.status_list(tx, authority_records.newest_list(tx))
        return Answer(200, {}, statuslist.published(found, self.site.keyring).content)


class Side:
    """A VAMT with its use cases of lists."""

    def __init__(self, site: Site, file: bytes, pub: str) -> None:
        self.site, self.pub = site, pub
        office = site.vamt.office
        self.proxy = Proxy(office, site.signer, secrets.token_bytes)
        self.intake = Intake(office, site.signer.kid)
        self.acquiring = Acquiring(office)
        self.applying = Applying(office)
        site.vamt.publishers.add(ADMINISTRATOR, file, pub)
        self.file = b""

    @contextmanager
    def out(self) -> Iterator[io.BytesIO]:
        """The medium."""
        written = io.BytesIO()
        yield written
        self.file = written.getvalue()

    def take(self, data: bytes) -> Taken:
        return self.intake.import_(OPERATOR, io.BytesIO(data))

    def states(self, taken: Taken) -> list[str]:
        return [
            one.state if one.refusal is None else f"{one.state} {one.refusal.code}" for one in taken.outcomes
        ]


class Trip:
    """Inside, outside, and the authority."""

    def __init__(self, authority: Path, database: Callable[[str], str | Path]) -> None:
        self.authority = authority_site.Site(authority)
        claims = {"sub": PRODUCT, "name": PRODUCT, "edition": "client", "pol": {}, "url": ADDRESS}
        self.authority.office.add_product(claims, [])
        self.pub = self.authority.pub
        product_file = self.authority.office.export_product(PRODUCT)
        self.sites = [Site(database(name)) for name in ("inside", "outside")]
        self.inside, self.outside = (Side(one, product_file, self.pub) for one in self.sites)
        self.wire = Wire(self.authority)
        self.machines: dict[str, Machine] = {}
        self.pending: dict[str, dict[str, Any]] = {}
        self.applied: dict[str, Any] = {}

    def close(self) -> None:
        self.authority.close()
        for one in self.sites:
            one.close()

    def estate(self, count: int) -> None:
        """So many machines, found and collected, in the inner VAMT."""
        names = [f"pc{number}" for number in range(count)]
        self.machines = {name: Machine(self.pub) for name in names}
        self.inside.site.see(*[Sighting("csv", name, "secret.example") for name in names])
        self._collected(names)

    def join(self, name: str, machine: Machine | None = None, **more: Any) -> Machine:
        """A machine, found and collected; under a known name it is that one, rebuilt, or another."""
        machine = machine or Machine(self.pub)
        self.machines[name] = machine
        self.inside.site.see(Sighting("csv", name, **{"domain": "secret.example", **more}))
        self._collected([name])
        return machine

    def _collected(self, names: Sequence[str]) -> None:
        with self.inside.site.store.writing() as tx:
            numbers = selecting.named_machines(tx, names)
            loaded = records.load(tx, numbers)
            said = {
                number: product(PRODUCT, 2, self.machines[name].cmid)._replace(publisher=self.pub)
                for name, number in zip(names, numbers, strict=True)
            }
            found = {number: (loaded[number], [Installed(one, "reported")]) for number, one in said.items()}
            records.put_products(tx, found, 1)
            cmids = [{"cmid": one.cmid, "pub": self.pub, "machine": number} for number, one in said.items()]
            tx.execute(schema.cmid.insert(), cmids)

    def ask_with(self, key: ProductKey) -> Any:
        def ask(targets: Sequence[Target]) -> Iterator[Said]:
            for one in targets:
                if one.name not in self.pending:
                    self.pending[one.name] = self.machines[one.name].request(key)
                yield Said(one, self.pending[one.name])

        return ask

    def export(self, key: ProductKey, selection: Selection = ALL, **more: Any) -> Exported:
        return self.inside.proxy.export(
            OPERATOR, self.pub, self.inside.out, selection=selection, ask=self.ask_with(key), **more
        )

    def acquire(self, lid: str) -> Acquired:
        return self.outside.acquiring.acquire(OPERATOR, lid, self.wire)

    def answer(self, lid: str) -> bytes:
        """Acquire, and write what the authority said."""
        self.acquire(lid)
        self.outside.proxy.export_answers(OPERATOR, lid, self.outside.out)
        return self.outside.file

    def round_trip(self, key: ProductKey) -> tuple[str, Taken]:
        """Out, there, and back; the list's id, and what came back."""
        done = self.export(key)
        taken = self.outside.take(self.inside.file)
        assert taken.lid == done.written.lid
        return done.written.lid, self.inside.take(self.answer(taken.lid))

    def bring(self, works: Sequence[Work]) -> Iterable[Applied]:
        """Bring confirmations to the machines, which judge by product and hardware (row 12)."""
        for one in works:
            there = self.machines[one.name.partition(".")[0]]
            claims = claims_of(one.bundle["token"])
            fits = hardware.compare(claims["fp"], there.fp()).verdict == hardware.SAME
            if fits:
                self.applied[one.name.partition(".")[0]] = claims
            yield Applied(one, None if fits else Refusal("other-machine"))


def rows_of(file: bytes) -> list[dict[str, Any]]:
    """The rows of a list, as JSON."""
    return [json.loads(line) for line in file.splitlines()[1:]]
