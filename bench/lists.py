"""Section i: taking in a computer list of 100,000 rows: its questions outside, their answers inside (issue 5).

What is measured is the command, ``volact vamt import FILE``, as a process of its own: time and the most memory that it
had. Requests, proofs and confirmations are real, each signed; the inner VAMT's rows are written as an export leaves them.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import driving
import prepare

from volact import db, signing
from volact.children import Volact
from volact.protocol import documents, ids, jws
from volact.vamt import cil, receipts
from volact.vamt.receipts import OPEN, OUT, Item, List
from volact.vamt.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    import authority_site

ROWS = 100_000
SECONDS, MIB = 30, 200


class Two:
    """An inner and an outer VAMT that know a publisher, and the two files that go between them."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`; one that was made before is taken again."""
        self.folder = folder
        self.inside, self.outside = (Volact(folder / name) for name in ("inside", "outside"))
        self.questions, self.answers = folder / "questions.cil", folder / "answers.cil"

    def make(self, count: int) -> None:
        """Set both up, and write files of `count` rows."""
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
        import authority_site

        site = authority_site.Site(self.folder / "authority.db")
        site.product()
        product = self.folder / "cad.volact-product"
        product.write_bytes(site.office.export_product(authority_site.PRODUCT))
        for one in (self.inside, self.outside):
            one.home.mkdir()
            one("vamt", "init", "--name", one.home.name)
            one("vamt", "publisher", "add", str(product), "--root", site.pub)
        self._write(site, count)
        site.close()

    def _write(self, site: authority_site.Site, count: int) -> None:
        """The list of questions, as the inner VAMT wrote it and keeps it, and the list of their answers."""
        outer = signing.load(self.outside.home / "vamt" / "keys" / "vamt.pem")
        inner = signing.load(self.inside.home / "vamt" / "keys" / "vamt.pem")
        lid = _id()
        store = Store(db.connect(self.inside.home / "vamt" / "vamt.db"))
        with store.writing() as tx:
            asked = List(0, lid, site.pub, OUT, cil.PROXY, 1, inner.kid, None, "", count, _now(), "bench")
            number = receipts.add(tx, asked)
        parts = {name: (self.folder / f"{name}.rows").open("w+b") for name in ("questions", "answers")}
        tallies = {name: cil.Tally() for name in parts}
        for batch in _batches(site, count):
            items = []
            for row, bundle, request in batch:
                answer = _confirmation(site, request)
                lines = {
                    "questions": cil.Row(
                        row, {name: bundle[name] for name in ("token", "jwk")}, bundle["proof"]
                    ),
                    "answers": cil.Row(row, answer=answer),
                }
                for name, one in lines.items():
                    line = cil.line_of(one)
                    tallies[name].add(line)
                    parts[name].write(line)
                items.append(Item(
                    0, number, row, ids.b64u(secrets.token_bytes(16)), request["prd"], "activate", request["jti"],
                    request["key"], bundle, OPEN, "", None, _now(), "bench",
                ))  # fmt: skip
            with store.writing() as tx:
                receipts.add_items(tx, items)
        store.close()
        common = {"pub": site.pub, "lab": True, "iat": _now(), "mode": cil.PROXY}
        for name, file, signer, more in (
            ("questions", self.questions, inner, {"sub": lid, "seq": 1}),
            ("answers", self.answers, outer, {"sub": _id(), "seq": 1, "ref": lid}),
        ):
            parts[name].seek(0)
            head = signer.bundle("cil", {**common, "jti": _id(), **more, **tallies[name].claims()})
            with file.open("wb") as out:
                out.write(cil.head_line(head))
                out.writelines(parts[name])
            parts[name].close()


def _id() -> str:
    return ids.b64u(secrets.token_bytes(16))


def _now() -> int:
    return int(time.time())


def _batches(
    site: authority_site.Site, count: int, size: int = 1000
) -> Iterator[list[tuple[str, dict[str, Any], dict[str, Any]]]]:
    """Rows: an id, a request bundle, and the request's claims. All are of one key."""
    import authority_site

    key = signing.Signer(site.key("mak", count).private_key(site.pub))
    for start in range(0, count, size):
        batch = []
        for _ in range(min(size, count - start)):
            bundle = json.loads(prepare.bundle(site, key, authority_site.PRODUCT))  # type: ignore[arg-type]  # its pub
            batch.append((_id(), bundle, jws.read_json(ids.unb64u(bundle["token"].split(".")[1]))))
        yield batch


def _confirmation(site: authority_site.Site, request: dict[str, Any]) -> dict[str, Any]:
    """As the authority grants it."""
    ring = site.keyring
    delegation = next(one for one in ring._delegations.values() if one.rol == "issuer")  # noqa: SLF001 - no use but this
    claims = {name: request[name] for name in ("sub", "prd", "key", "fp")}
    payload = documents.write(
        "confirmation",
        {**ring.common(), "iss": ring.issuer.kid, "iat": delegation.iat + 60, "jti": _id(), **claims,
         "act": _id(), "req": request["jti"]},
    )  # fmt: skip
    token = ring.issuer.sign_payload("confirmation", payload)
    return {"token": token, "chain": [delegation.token], "roots": []}


def measure(folder: Path, count: int = ROWS) -> dict[str, Any]:
    """Both files taken in, and the second one once more, when all of it is known."""
    two = Two(folder)
    two.make(count)
    figures: dict[str, Any] = {"rows": count, "cores": os.cpu_count()}
    figures["questions"] = driving.command_of(two.outside, "vamt", "import", str(two.questions))
    figures["answers"] = driving.command_of(two.inside, "vamt", "import", str(two.answers))
    figures["again"] = driving.command_of(two.inside, "vamt", "import", str(two.answers))
    for name, file in (("questions", two.questions), ("answers", two.answers)):
        figures[name]["file_mib"] = file.stat().st_size >> 20
    return figures


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The rows of section i."""
    made = []
    for name, what in (
        ("questions", "a list of questions is taken in"),
        ("answers", "a list of confirmations is taken in"),
        ("again", "  the same once more"),
    ):
        one = found[name]
        good = one["seconds"] < SECONDS and one["rss_mib"] < MIB and one["exit"] == 0
        made.append((
            f"{what}, {found['rows']:,} rows", f"{one['seconds']} s (CPU {one['cpu']} s), {one['rss_mib']} MiB",
            f"{SECONDS} s, {MIB} MiB", driving.verdict(good),
        ))  # fmt: skip
    return made
