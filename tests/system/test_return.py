"""A machine and its authority as processes: an activation is given back, online and by file (M6, row 13)."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import inprocess
from authority_process import Home, Serving
from client.machine import PARTS
from volact.protocol.keys import ProductKey
from world import claims_of, verified

pytestmark = pytest.mark.sockets


class MachineHome:
    """A machine of a laboratory, driven by its commands."""

    def __init__(self, folder: Path, parts: dict[str, str]) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "facts.json").write_text(json.dumps(parts))
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")},
            "VOLACT_HOME": str(folder / "home"),
            "VOLACT_MACHINE_FACTS": str(folder / "facts.json"),
        }

    def run(self, *words: str, code: int = 0, stdin: str = "") -> Any:
        """A return online is a process of its own; what comes before and after it is not."""
        run = inprocess.process if words == ("return",) else inprocess.run
        done = run("volact", "client", *words, "--json", environ=self.environ, stdin=stdin)
        assert done.code == code, (words, done)
        assert "Traceback" not in done.err
        return json.loads(done.out)

    def activate(self, home: Home, url: str, key: ProductKey) -> "MachineHome":
        product = self.folder / "product"
        product.write_text(json.dumps(home.product))
        self.run("install", str(product), "--root", home.pub)
        self.run("install-key", "-", stdin=key.text())
        assert self.run("activate")["state"] == 1
        return self

    @property
    def standing(self) -> tuple[int, str]:
        (row,) = self.run("status")["products"]
        return row["state"], row["reason"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Serving]]:
    """An authority that serves at the address which its product's file names."""
    home = Home(tmp_path_factory.mktemp("home"))
    clock = home.folder / "clock"
    clock.write_text("+0d")
    home.environ["VOLACT_LAB_CLOCK"] = str(clock)
    home.set_up()
    with Serving(home) as serving:
        home.say_address(serving.url)
        yield home, serving


def counts(home: Home, key: ProductKey) -> tuple[int, int, int, int]:
    shown = home.run("key", "show", key.label)
    return shown["bought"], shown["activated"], shown["remaining"], shown["returning"]


def listed(home: Home, key: ProductKey) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = home.run("activation", "list", "--key", key.label)
    return rows


def test_a_machine_gives_its_activation_back_online(site: tuple[Home, Serving], tmp_path: Path) -> None:
    home, serving = site
    key = home.key(activations=2)
    machine = MachineHome(tmp_path / "machine", PARTS).activate(home, serving.url, key)
    shutil.copytree(machine.folder / "home", tmp_path / "copy")
    given = machine.run("return")
    assert (given["state"], given["reason"]) == machine.standing == (0, "activation-returned")
    receipt = verified(given["receipt"], "receipt", home.product["root"], home.pub).document
    assert receipt["act"] == given["activation"]
    assert counts(home, key) == (2, 0, 2, 0)
    (row,) = listed(home, key)
    assert (row["activation"], row["blocked"], row["seat_free"]) == (given["activation"], None, None)
    assert row["returned"].endswith("Z")
    assert row["id"] == receipt["sub"]
    assert machine.run("return", code=1)["code"] == "activation-returned"

    # Somebody puts the folder of before back: the next contact says what it is worth.
    shutil.rmtree(machine.folder / "home")
    shutil.copytree(tmp_path / "copy", machine.folder / "home")
    assert machine.standing == (1, "activated")
    assert machine.run("return", code=1)["code"] == "activation-returned"
    assert machine.standing == (0, "activation-returned")

    # Row 13: it may activate again, and is counted.
    machine.run("install-key", "-", stdin=key.text())
    assert machine.run("activate")["state"] == 1
    assert counts(home, key) == (2, 1, 1, 0)
    assert [one["returned"] is None for one in listed(home, key)] == [False, True]


def test_a_machine_gives_its_activation_back_by_file(site: tuple[Home, Serving], tmp_path: Path) -> None:
    home, serving = site
    key = home.key(activations=2)
    machines = [
        MachineHome(
            tmp_path / name, {**PARTS, "uuid": PARTS["uuid"][:-2] + name, "board": name, "disk": name}
        )
        for name in ("01", "02")
    ]
    for machine in machines:
        machine.activate(home, serving.url, key)
    first, second = machines
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    given = first.run("return", "--file", str(asked))
    assert first.standing == (0, "activation-returned")
    assert counts(home, key) == (2, 2, 0, 0)

    assert home.run("answer", str(asked), "-o", str(answered))["answered"] == 1
    receipt = json.loads(answered.read_text())
    claims = verified(receipt, "receipt", home.product["root"], home.pub).document.claims
    assert (claims["act"], claims["req"]) == (
        given["activation"],
        claims_of(given["request"]["token"])["jti"],
    )
    assert counts(home, key) == (2, 2, 0, 1)
    before = answered.read_bytes()
    assert home.run("answer", str(asked), "-o", str(answered))["answered"] == 1
    assert answered.read_bytes() == before
    with serving.caller() as caller:
        body = caller.post("/v1/requests", {"requests": [given["request"]]}).bundle()
        assert body["answers"] == [receipt], "posted by whoever read the file: the same"

        # Another is posted by one with a network, as VAMT does: the machine says that it was by file.
        other = second.run("return", "--file", str(asked))
        (done,) = caller.post("/v1/requests", {"requests": [other["request"]]}).bundle()["answers"]
        verified(done, "receipt", home.product["root"], home.pub)
        status = caller.get("/v1/root")
        assert status.status == 200
    assert counts(home, key) == (2, 2, 0, 2)
    assert [row["seat_free"] is None for row in listed(home, key)] == [False, False]

    (home.folder / "clock").write_text("+30d")
    try:
        assert counts(home, key) == (2, 0, 2, 0)
        assert [row["seat_free"] for row in listed(home, key)] == [None, None]
    finally:
        (home.folder / "clock").write_text("+0d")


def test_wrong_files(site: tuple[Home, Serving], tmp_path: Path) -> None:
    home, serving = site
    key = home.key(activations=2)
    machine = MachineHome(tmp_path / "machine", PARTS).activate(home, serving.url, key)
    nowhere = machine.run("return", "--file", str(tmp_path / "no" / "where"), code=4)
    assert nowhere["code"] == "not-writable"
    assert machine.standing == (1, "activated")
    asked, answered = tmp_path / "asked", tmp_path / "answered"
    bundle = machine.run("return", "--file", str(asked))["request"]
    for wrong, said in (
        ({**bundle, "proof": bundle["token"]}, "document-refused"),
        ({**bundle, "usage": {}}, "document-refused"),
        ({**bundle, "token": bundle["token"][:-4] + "AAAA"}, "document-refused"),
        ({"token": bundle["token"]}, "document-refused"),
        ({**bundle, "more": 1}, "request-malformed"),
    ):
        asked.write_text(json.dumps(wrong))
        assert home.run("answer", str(asked), "-o", str(answered), code=1)["code"] == said
        assert not answered.exists()
    assert counts(home, key) == (2, 1, 1, 0)
