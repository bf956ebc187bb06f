"""V4, V8, M3, M8 by commands: a VAMT that keeps keys of a real authority; no key in any output, log or database."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

import inprocess
from authority_process import Home, reachable
from volact import db
from volact.protocol import keys
from volact.protocol.keys import ProductKey
from volact.vamt import records, schema
from volact.vamt.inventory import Product
from volact.vamt.records import Installed
from volact.vamt.store import Store
from world import PRODUCT, claims_of, new_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

pytestmark = pytest.mark.sockets


class Place:
    """A VOLACT_HOME with a VAMT in it; all that it ever said."""

    def __init__(self, folder: Path, home: Home) -> None:
        self.folder, self.home = folder, home
        self.said = ""
        passphrase = folder / "passphrase"
        passphrase.write_text("a passphrase of a test\n")
        passphrase.chmod(0o600)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")},
            "VOLACT_HOME": str(folder / "home"),
            "VOLACT_VAMT_PASSPHRASE_FILE": str(passphrase),
        }
        self.run("init")
        product = folder / "product"
        product.write_text(json.dumps(home.product))
        self.run("publisher", "add", str(product), "--root", home.pub)

    def run(self, *words: str, code: int = 0, stdin: str = "", json_: bool = True) -> Any:
        more = ("--json",) if json_ else ()
        done = inprocess.run("volact", "vamt", *words, *more, environ=self.environ, stdin=stdin)
        self.said += done.out + done.err
        assert done.code == code, (words, done)
        assert "Traceback" not in done.err
        return json.loads(done.out) if json_ else done.out

    def refused(self, *words: str, code: int = 1, stdin: str = "") -> str:
        return str(self.run(*words, code=code, stdin=stdin)["code"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with reachable(tmp_path_factory.mktemp("authority")) as home:
        yield home


@pytest.fixture
def place(tmp_path: Path, authority: Home) -> Place:
    return Place(tmp_path, authority)


def test_the_whole_of_it(place: Place, authority: Home, tmp_path: Path) -> None:
    """The authority's CSV in, counts asked, a key recommended; and a planted key is found nowhere (M8)."""
    assert place.refused("key", "add", "-", "--product", PRODUCT, stdin=new_key().text()) == "not-set-up"
    place.run("seal")
    assert place.run("key", "list") == []
    assert "key add" in place.run("key", "list", json_=False)
    file = tmp_path / "keys.csv"
    authority.run(
        *("key", "issue", "--product", PRODUCT, "--customer", "Contoso", "--kind", "mak"),
        *("--activations", "3", "--copies", "2", "--csv", str(file)),
    )
    planted = [keys.read(line.partition(",")[0]) for line in file.read_text().splitlines()[1:]]
    maks = [one for one in planted if isinstance(one, ProductKey)]
    assert len(maks) == 2
    retail, foreign = authority.key("retail"), new_key()
    assert [one["new"] for one in place.run("key", "add", f"@{file}")] == [True, True]
    both = f"{retail.text()}\n{foreign.text().lower()}\n"
    told = place.run("key", "add", "-", "--product", PRODUCT, "--note", "spare", stdin=both, json_=False)
    assert f"{retail.label}: kept, sealed" in told
    assert place.run("key", "show", retail.label)["remaining"] is None
    refreshed = {one["label"]: one for one in place.run("key", "refresh", code=1)}
    for label, bought in ((maks[0].label, 3), (maks[1].label, 3), (retail.label, 1)):
        one = refreshed[label]
        assert (one["bought"], one["activated"], one["remaining"]) == (bought, 0, bought)
        assert one["refused"] is None
        assert one["as_of"].endswith("Z")
    assert refreshed[foreign.label]["refused"]["code"] == "key-unknown"
    assert "asked now" in place.run("key", "refresh", maks[0].label, json_=False)
    assert f"...-{retail.label}" in place.run("key", "list", json_=False)
    assert "spare" in place.run("key", "show", retail.label, json_=False)
    _recommend(place, maks[0].label)
    _reach_nobody(place, maks[0].label)
    assert place.run("key", "remove", retail.label) == {"removed": 1}
    place.run("log")
    _is_nowhere(place, [*maks, retail, foreign])


def _recommend(place: Place, label: str) -> None:
    """What a machine takes that has not said yet what is on it, and that has."""
    place.run("machine", "add", "pc1")
    assert place.run("key", "recommend", "--all") == []
    assert "No product" in place.run("key", "recommend", "pc1", json_=False)
    with _database(place) as tx:
        (number,) = records.numbers(tx, [place.run("machine", "show", "pc1")["id"]]).values()
        said = Installed(Product(place.home.pub, PRODUCT, 2), "reported")
        records.put_products(tx, {number: (records.load(tx, [number])[number], [said])}, 1)
    (one,) = place.run("key", "recommend", "--all")
    assert (one["product"], one["need"], one["missing"]) == (PRODUCT, 1, 0)
    (taken,) = one["keys"]
    assert (taken["kind"], taken["machines"], taken["remaining"], taken["assured"]) == ("mak", 1, 3, True)
    assert taken["label"] <= label
    assert "left before" in place.run("key", "recommend", "--where", "state=initial-grace", json_=False)


def _reach_nobody(place: Place, label: str) -> None:
    """An address where nobody listens, and one where another one does: exit 3, and the reason for the key."""
    with _database(place) as tx:
        tx.exec_driver_sql("UPDATE publisher SET url = 'https://127.0.0.1:1'")
    (one,) = place.run("key", "refresh", label, code=3)
    assert one["refused"]["code"] == "authority-unreachable"
    with _database(place) as tx:
        url = claims_of(place.home.product["token"])["url"]
        tx.execute(sa.update(schema.publisher).values(url=url, tls=json.dumps(["B" * 43])))
    (one,) = place.run("key", "refresh", label, code=3)
    assert one["refused"]["code"] == "authority-untrusted"
    assert one["remaining"] == 3


@contextmanager
def _database(place: Place) -> Iterator[Connection]:
    store = Store(db.connect(place.folder / "home" / "vamt" / "vamt.db"))
    with store.writing() as tx:
        yield tx
    store.close()


def _is_nowhere(place: Place, planted: list[ProductKey]) -> None:
    files = [one for one in (place.folder / "home").rglob("*") if one.is_file()]
    assert any(one.suffix == ".db" for one in files)
    written = place.said.encode() + b"".join(one.read_bytes() for one in files)
    written += (place.home.folder / "serve.log").read_bytes()
    for key in planted:
        assert key.label.encode() in written
        for secret in (key.symbols[:20], key.text()[:23], key.symbols[:10], key.text()[:11]):
            assert secret.encode() not in written
            assert secret.lower().encode() not in written.lower()


def test_bad_input(place: Place, tmp_path: Path) -> None:
    place.run("seal")
    good, host = new_key(), new_key("kms-host")
    mistyped = good.text()[:3] + ("3" if good.text()[3] != "3" else "4") + good.text()[4:]
    add = ("key", "add", "-", "--product", PRODUCT)
    assert place.refused(*add, stdin=mistyped) == "key-mistyped"
    assert place.refused(*add, stdin=host.text()) == "key-wrong-kind"
    assert place.refused(*add, stdin="", code=2) == "usage"
    assert place.refused(*add[:3], stdin=good.text(), code=2) == "usage"
    assert place.refused("key", "add", code=2) == "usage"
    assert place.refused(*add, "--passphrase", "-", stdin=good.text(), code=2) == "usage"
    assert place.refused(*add, "--note", "a\nb", stdin=good.text(), code=2) == "usage"
    assert (
        place.refused("key", "add", "-", "--product", "com.example.no", stdin=good.text())
        == "product-unknown"
    )
    assert place.refused("key", "add", "@/nowhere/at/all", "--product", PRODUCT, code=4) == "not-readable"
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert (
        place.refused("key", "add", f"@{tmp_path / 'binary'}", "--product", PRODUCT, code=4) == "not-readable"
    )
    long = tmp_path / "long"
    long.write_text("x" * (4 * 1024 * 1024 + 1))
    assert place.refused("key", "add", f"@{long}", "--product", PRODUCT, code=2) == "usage"
    several = place.run(*add, stdin=f"{good.text()}\n{mistyped}\n{host.text()}\n", code=1)
    assert several["code"] == "keys-malformed"
    assert [(one["line"], one["code"]) for one in several["lines"]] == [
        (2, "key-mistyped"),
        (3, "key-wrong-kind"),
    ]
    assert "line 2" in several["detail"]
    assert place.run("key", "list") == []
    assert place.refused("key", "show", good.label) == "key-not-held"
    for words in (("show", good.text()), ("remove", good.symbols), ("refresh", good.text()), ("remove",)):
        assert place.refused("key", *words, code=2) == "usage"
    assert place.run("key", "refresh") == []
    assert place.refused("key", "recommend", code=1) == "selection-empty"
    assert good.text()[:23] not in place.said
    assert mistyped[:23] not in place.said
    assert good.symbols[:20] not in place.said
    _is_not_logged(place, good)


def _is_not_logged(place: Place, key: ProductKey) -> None:
    written = b"".join(one.read_bytes() for one in (place.folder / "home").rglob("*") if one.is_file())
    for secret in (key.text()[:11], key.symbols[:10]):
        assert secret.encode() not in written


def test_advice(place: Place) -> None:
    assert place.run("advise")["way"] == "mak-online"
    assert place.run("advise", "--isolated")["way"] == "mak-proxy"
    told = place.run("advise", "--isolated", "--machines", "25", "--product", PRODUCT)
    assert (told["way"], told["network"]["thresholds"]) == ("kms", [{"count": "machines", "minimum": 25}])
    assert place.run("advise", "--servers", "5")["way"] == "kms"
    assert "Advised: MAK, by the MAK proxy" in place.run("advise", "--isolated", json_=False)
    for words in (
        ("--machines", "-1"),
        ("--servers", "10000001"),
        ("--machines", "4", "--servers", "5"),
        ("--publisher", "x"),
    ):
        assert place.refused("advise", *words, code=2) == "usage"
    assert place.refused("advise", "--group", "Nowhere") == "group-unknown"
