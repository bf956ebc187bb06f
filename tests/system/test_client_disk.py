"""A client whose real disk is full: a clear error, no half file, what it has stays good, and it goes on when there is space."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

import disks
import inprocess
from client.kms_server import KmsHost, KmsServer
from client.machine import PARTS
from client.publisher import Publisher
from inprocess import Done
from world import DAY

pytestmark = pytest.mark.sockets


class Machine:
    """A client whose home is on the small disk, and a host that it is set to."""

    def __init__(self, home: Path, outside: Path) -> None:
        publisher = Publisher(iat=int(time.time()) - DAY)
        self.host = KmsHost(publisher)
        self.host.clock = lambda: int(time.time())
        self.server = KmsServer(outside, self.host)
        facts = outside / "facts.json"
        facts.write_text(json.dumps(PARTS))
        self.home = home
        self.environ = {"VOLACT_HOME": str(home), "VOLACT_MACHINE_FACTS": str(facts)}
        self.product = outside / "cad.volact-product"
        self.product.write_bytes(publisher.product_file())
        self.pub = publisher.pub

    def install(self) -> None:
        done = inprocess.run(
            "volact", "client", "install", str(self.product), f"--root={self.pub}", environ=self.environ
        )
        assert done.code == 0, done
        assert self.slmgr("/skms", f"127.0.0.1:{self.server.port}").code == 0

    def slmgr(self, *words: str) -> Done:
        return inprocess.run("slmgr", *words, "--json", environ=self.environ)

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self.slmgr("/dlv").out))

    def files(self) -> dict[str, bytes]:
        """What is stored, without locks and the file that fills the disk."""
        return {
            str(path): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file() and path.suffix in (".json", ".pem")
        }

    def events(self) -> list[tuple[int, str]]:
        found = inprocess.run("volact", "client", "events", "--json", environ=self.environ)
        return [(one["event"], one["result"]) for one in json.loads(found.out)]


def test_a_full_disk_is_a_clear_error_and_the_lease_that_is_there_stays_good(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with disks.small_disk(home, "client") as disk:
        machine = Machine(home, tmp_path)
        with machine.server:
            machine.install()
            assert json.loads(machine.slmgr("/ato").out)["state"] == 1
            before, told, calls = machine.files(), machine.events(), machine.host.gets
            assert told == [(12288, ""), (12289, "ok")]
            disk.fill(0)
            for _ in range(3):
                done = machine.slmgr("/ato")
                assert done.code == 4, done
                assert "Traceback" not in done.err
                problem = json.loads(done.out)
                assert "No space left on device" in problem["detail"], problem
            assert machine.files() == before
            assert machine.host.gets == calls + 3
            assert machine.state()["state"] == 1
            disk.free(0)
            granted = json.loads(machine.slmgr("/ato").out)
            assert granted["state"] == 1
            # Of the tries that could not be written down none is in the log; the next one is.
            assert machine.events() == [*told, (12288, ""), (12289, "ok")]
            assert not list(home.rglob("*.tmp*"))
