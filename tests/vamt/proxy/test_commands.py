"""P1 by commands alone: a client and a VAMT inside, another VAMT and the authority outside, files between them."""

from __future__ import annotations

import csv
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

import inprocess
from authority_process import Home, reachable
from client.machine import FOREIGN, PARTS
from polling import until
from world import PRODUCT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.sockets


class Place:
    """A VOLACT_HOME with a client and a VAMT in it."""

    def __init__(self, folder: Path, parts: dict[str, str]) -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "facts.json").write_text(json.dumps(parts))
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")},
            "VOLACT_HOME": str(folder / "home"),
            "VOLACT_MACHINE_FACTS": str(folder / "facts.json"),
        }

    def run(self, *words: str, code: int = 0, stdin: str = "", program: str = "volact") -> Any:
        done = inprocess.run(program, *words, "--json", environ=self.environ, stdin=stdin)
        assert done.code == code, (words, done)
        assert "Traceback" not in done.err
        return json.loads(done.out)

    def vamt(self, *words: str, code: int = 0) -> Any:
        return self.run("vamt", *words, code=code)

    def prose(self, *words: str) -> str:
        done = inprocess.run("volact", "vamt", *words, environ=self.environ)
        assert done.code == 0, done
        return done.out

    def set_up(self, home: Home) -> str:
        product = self.folder / "product"
        product.write_text(json.dumps(home.product))
        fingerprint = self.vamt("init")["fingerprint"]
        self.vamt("publisher", "add", str(product), "--root", home.pub)
        return str(fingerprint)

    def client(self, home: Home, key: str) -> None:
        self.run("client", "install", str(self.folder / "product"), "--root", home.pub)
        self.run("client", "install-key", "-", stdin=key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with reachable(tmp_path_factory.mktemp("authority")) as home:
        yield home


def test_the_whole_of_it(authority: Home, tmp_path: Path) -> None:
    """Collect, export, import, acquire, export, import, apply; a second machine goes by files of its own."""
    key = authority.key(activations=2).text()
    inside, outside = Place(tmp_path / "inside", PARTS), Place(tmp_path / "outside", {})
    other = Place(tmp_path / "other", FOREIGN)
    fingerprint, _ = inside.set_up(authority), outside.set_up(authority)
    inside.client(authority, key)
    (other.folder / "product").write_text(json.dumps(authority.product))
    other.client(authority, key)
    request = tmp_path / "request"
    other.run("/dti", str(request), program="slmgr")

    inside.vamt("machine", "add", "here", "--transport", "local")
    inside.vamt("collect", "--all")
    out, back = tmp_path / "out.cil", tmp_path / "back.cil"
    made = inside.vamt("export", str(out), "--all", "--request", str(request), "--proxy-only")
    assert (made["rows"], {one["state"] for one in made["outcomes"]}) == (2, {"written"})
    assert key not in out.read_text()

    took = outside.vamt("import", str(out))
    assert (took["list"], took["counts"], took["writer"]["fingerprint"]) == (
        made["list"],
        {"new": 2},
        fingerprint,
    )
    assert f"volact vamt trust {fingerprint}" in outside.prose("import", str(out))
    assert outside.vamt("trust", fingerprint, "--name", "Inside")[0]["trusted"] is True
    assert outside.vamt("acquire")["answered"] == 2
    wrote = outside.vamt("export", str(back), "--answers", "newest")
    assert (wrote["answers"], wrote["rows"]) == (made["list"], 2)

    took = inside.vamt("import", str(back))
    assert (took["answers"], took["counts"]) == (made["list"], {"answered": 2})
    assert inside.vamt("import", wrote["status_list"])["kind"] == "status-list"
    assert inside.run("client", "status")["products"][0]["state"] == 2
    done = inside.vamt("apply")
    assert (done["applied"], done["failed"]) == (1, 1)
    (failed,) = [one for one in done["outcomes"] if one["code"]]
    assert failed["code"] == "machine-unknown"
    assert "--into" in failed["detail"]
    assert inside.run("client", "status")["products"][0]["state"] == 1

    folder = tmp_path / "by-hand"
    made = inside.vamt("apply", "--into", str(folder), "--again")
    assert (made["applied"], made["written"], made["failed"]) == (0, 2, 0)
    (theirs,) = [one for one in folder.iterdir() if not one.name.startswith("here")]
    other.run("/atp", str(theirs), program="slmgr")
    assert other.run("client", "status")["products"][0]["state"] == 1
    assert sorted(one["state"] for one in inside.vamt("receipt")["outcomes"]) == ["applied", "handed"]
    assert [one["direction"] for one in inside.vamt("lists")] == ["answer-in", "out"]
    assert [one["direction"] for one in outside.vamt("lists")] == ["answer-out", "in"]

    # P4: set up anew on the same hardware, activated again from what is kept here; the key has none left.
    (inside.folder / "home" / "client").rename(tmp_path / "the-old-disk")
    inside.client(authority, key)
    inside.vamt("collect", "--all")
    assert inside.vamt("apply", "--kept", "--all")["applied"] == 1
    assert inside.run("client", "status")["products"][0]["state"] == 1

    table = tmp_path / "machines.csv"
    assert inside.vamt("export", str(table), "--all")["rows"] == 1
    (row,) = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    assert row["product"] == PRODUCT
    assert inside.vamt("export", str(tmp_path / "log.xlsx"), "--log")["rows"] > 5


def test_a_block_reaches_machines_that_call_nobody(authority: Home, tmp_path: Path) -> None:
    """M5: the status list travels on the medium; VAMT brings it to one machine, another takes it from the file."""
    key = authority.key(activations=2)
    inside, outside = Place(tmp_path / "inside", PARTS), Place(tmp_path / "outside", {})
    inside.set_up(authority)
    outside.set_up(authority)
    other = Place(tmp_path / "other", FOREIGN)
    (other.folder / "product").write_text(json.dumps(authority.product))
    for one in (inside, other):
        one.client(authority, key.text())
    assert other.run("client", "activate")["state"] == 1
    inside.vamt("machine", "add", "here", "--transport", "local")
    inside.vamt("collect", "--all")
    out, back = str(tmp_path / "out.cil"), str(tmp_path / "back.cil")
    inside.vamt("export", out, "--all")
    outside.vamt("import", out)
    outside.vamt("acquire")
    outside.vamt("export", back, "--answers", "newest")
    inside.vamt("import", back)
    inside.vamt("apply")
    for row in authority.run("activation", "list", "--key", key.label):
        authority.run("activation", "block", row["activation"])

    def has_the_block() -> bool:
        """The authority's service sees what its commands changed when it looks the next time."""
        outside.vamt("acquire")
        outside.vamt("export", back, "--answers", "newest")
        done = other.run("client", "status-list", f"{back}.status")
        return bool(done["products"][0]["state"] == 4)

    until(has_the_block)
    assert inside.run("client", "status")["products"][0]["state"] == 1, "never told"
    inside.vamt("import", f"{back}.status")
    (row,) = inside.vamt("apply", "--status-list", "--all")["outcomes"]
    assert (row["machine"], row["operation"], row["state"]) == ("here", "status-list", "applied")
    assert [row["reason"] for row in inside.run("client", "status")["products"]] == ["blocked"]
    folder = tmp_path / "by-hand"
    assert inside.vamt("apply", "--status-list", "--all", "--into", str(folder))["written"] == 1
    (file,) = folder.iterdir()
    assert file.read_bytes() == (tmp_path / "back.cil.status").read_bytes()
    assert file.suffix == ".status"


def test_wrong_calls(authority: Home, tmp_path: Path) -> None:
    """What is wrong and what to do; nothing is written."""
    place = Place(tmp_path / "place", PARTS)
    file = tmp_path / "x.cil"
    assert place.vamt("export", str(file), "--all", code=1)["code"] == "not-set-up"
    place.set_up(authority)
    bad = tmp_path / "bad"
    bad.write_bytes(b"no list\n")
    for words, code, said in [
        (("export", str(file)), 2, "usage"),
        (("export", str(file), "--all"), 1, "selection-empty"),
        (("export", str(tmp_path / "x.odt"), "--all"), 2, "usage"),
        (("export", str(tmp_path / "x.csv")), 2, "usage"),
        (("export", str(tmp_path / "x.csv"), "--all", "--proxy-only"), 2, "usage"),
        (("export", str(file), "--answers", "A" * 22), 1, "list-unknown"),
        (("export", str(file), "--answers", "newest"), 2, "usage"),
        (("export", str(file), "--request", str(bad)), 1, "document-refused"),
        (("export", str(file), "--all", "--publisher", "x"), 1, "publisher-unknown"),
        (("export", str(tmp_path / "none" / "x.csv"), "--all"), 4, "not-writable"),
        (("import", str(bad)), 1, "document-refused"),
        (("import", str(tmp_path / "none")), 4, "not-readable"),
        (("acquire",), 2, "usage"),
        (("acquire", "A" * 22), 1, "list-unknown"),
        (("apply", "A" * 22), 1, "list-unknown"),
        (("apply", "--all"), 2, "usage"),
        (("apply", "--kept"), 1, "selection-empty"),
        (("apply", "--status-list"), 1, "selection-empty"),
        (("apply", "--kept", "--status-list", "--all"), 2, "usage"),
        (("apply", "A" * 22, "--status-list"), 2, "usage"),
        (("apply", "A" * 22, "--kept"), 2, "usage"),
        (("trust", "x"), 2, "usage"),
        (("receipt", "A" * 22), 1, "list-unknown"),
    ]:
        assert place.vamt(*words, code=code)["code"] == said, words
    assert not file.exists()
    assert place.vamt("lists") == place.vamt("trust") == []


def test_an_old_list_in_xml(authority: Home, tmp_path: Path) -> None:
    """V7; and of a malformed one nothing is taken in."""
    place = Place(tmp_path / "place", PARTS)
    place.set_up(authority)
    file = tmp_path / "old.cil"
    good = '<SoftwareLicensingData><Computers><Computer Name="PC1"/><Computer Name="PC2"/>'
    file.write_text(good + "</Computers>")
    assert place.vamt("import", str(file), code=1)["code"] == "list-malformed"
    assert place.vamt("machine", "list")["total"] == 0
    file.write_text(good + "</Computers></SoftwareLicensingData>")
    assert place.vamt("import", str(file))["machines"] == 2
    assert place.vamt("machine", "list")["total"] == 2


def test_an_export_that_fails_leaves_the_old_file(authority: Home, tmp_path: Path) -> None:
    """F32: until the new one is whole the old one is there, and nothing beside it."""
    place = Place(tmp_path / "place", PARTS)
    place.set_up(authority)
    folder = tmp_path / "medium"
    folder.mkdir()
    file = folder / "x.cil"
    file.write_text("the old one")
    place.vamt("machine", "add", "pc1")
    assert place.vamt("export", str(file), "--all", code=1)["code"] == "list-empty"
    assert [one.name for one in folder.iterdir()] == ["x.cil"]
    assert file.read_text() == "the old one"
