"""A KMS host's own home beside a publisher's real authority role, which is asked without a network."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from authority_site import ADDRESS, Site
from volact.authority import records, statuslist
from volact.authority.asks import Sent
from volact.calls import Answer
from volact.kmshost import setup
from volact.kmshost.activating import Activated, Activating
from volact.kmshost.setup import Opened
from volact.protocol.keys import ProductKey
from volact.protocol.problems import Refusal, Unreachable
from world import PRODUCT


class Wire:
    """Carries what a host posts to the site's authority, as its HTTP face does; it can lose answers."""

    def __init__(self, site: Site, address: str = ADDRESS) -> None:
        self.site = site
        self.address = address
        self.lose = 0
        self.asked: list[dict[str, Any]] = []
        self.called: list[tuple[str, tuple[str, ...]]] = []
        self.lists: list[str | None] = []
        self.forged: bytes | None = None

    def __call__(self, url: str, pins: Sequence[str]) -> Self:
        self.called.append((url, tuple(pins)))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def post(self, _path: str, body: dict[str, Any]) -> Answer:
        self.asked.append(body)
        sent = Sent(body.get("token"), body.get("jwk"), body.get("proof"), body.get("usage"))
        (answer,) = self.site.authority.answer([(sent, self.address)])
        if self.lose:
            self.lose -= 1
            raise Unreachable(Refusal("authority-unreachable", "cut"))
        if isinstance(answer, Refusal):
            return Answer(answer.problem.status, {}, json.dumps(answer.document()).encode())
        return Answer(200, {}, answer)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        if path == "/v1/status":
            return self._list((headers or {}).get("If-None-Match"))
        roots = self.site.keyring.roots
        body = {"root": roots.first, "roots": list(roots.later)}
        return Answer(200, {}, json.dumps(body).encode())

    def _list(self, known: str | None) -> Answer:
        self.lists.append(known)
        if self.lose:
            self.lose -= 1
            raise Unreachable(Refusal("authority-unreachable", "cut"))
        with self.site.store.reading() as tx:
            stored = records.status_list(tx, records.newest_list(tx))
        found = statuslist.published(stored, self.site.keyring)
        if known == found.etag:
            return Answer(304, {}, b"")
        return Answer(200, {}, found.content if self.forged is None else self.forged)


class Enterprise:
    """A home with a host in it."""

    def __init__(self, folder: Path, site: Site, name: str = "host") -> None:
        self.site = site
        self.wire = Wire(site)
        self.home = folder / name
        self.home.mkdir()
        clock = folder / "clock"
        clock.write_text(str(site.clock.now()))
        self.clock = clock
        self.environ = {"VOLACT_HOME": str(self.home), "VOLACT_LAB_CLOCK": str(clock)}

    def product_file(self, prd: str = PRODUCT) -> Path:
        file = self.home.parent / f"{prd}.volact-product"
        file.write_bytes(self.site.office.export_product(prd))
        return file

    def init(self, *products: str) -> setup.Made:
        files = [self.product_file(prd) for prd in products or (PRODUCT,)]
        return setup.initialise(self.site.pub, files, self.environ)

    def pass_(self, seconds: int) -> None:
        self.site.clock.pass_(seconds)
        self.clock.write_text(str(self.site.clock.now()))

    @contextmanager
    def opened(self) -> Iterator[Opened]:
        with setup.opened(self.environ) as opened:
            yield opened

    @contextmanager
    def work(self) -> Iterator[Activating]:
        with self.opened() as opened:
            yield Activating(opened, self.wire, secrets.token_bytes)

    def install_key(self, key: ProductKey, product: str | None = None) -> None:
        with self.work() as work:
            work.install_key(key.text(), product)

    def activate(self, op: str = "host", authority: str | None = "https://authority.test") -> Activated:
        with self.work() as work:
            return work.online(op, authority)

    def apply(self, answer: Any) -> Activated:
        with self.work() as work:
            return work.apply(json.dumps(answer).encode())

    def request(self, op: str = "host") -> dict[str, Any]:
        with self.work() as work:
            return work.write_request(op)

    def rows(self, table: str) -> list[Any]:
        with self.opened() as opened, opened.store.reading() as tx:
            return list(tx.exec_driver_sql(f"SELECT * FROM {table}").all())

    def everything(self) -> dict[str, list[Any]]:
        """What a refused answer must leave as it was."""
        return {name: self.rows(name) for name in ("publisher", "product", "delegation", "event")}
