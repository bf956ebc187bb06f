"""The client's real processes against a real HTTPS server: first start, service, stop, kill, secrets."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.machine import PARTS
from client.publisher import PRODUCT, Publisher
from client.server import Server, slow
from polling import until

pytestmark = pytest.mark.sockets


class Home:
    """A machine of a laboratory, driven by its commands in processes of their own."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server, self.publisher = folder, server, server.publisher
        folder.mkdir()
        (folder / "facts.json").write_text(json.dumps(PARTS))
        self.environ = {
            **os.environ,
            "VOLACT_HOME": str(folder / "home"),
            "VOLACT_MACHINE_FACTS": str(folder / "facts.json"),
        }
        product = folder / "product"
        product.write_bytes(self.publisher.product_file(url=server.url, tls=(server.pin,)))
        assert self.run("install", str(product), "--root", self.publisher.pub).returncode == 0

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "volact", "client", *words]

    def run(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*words),
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*words), env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def status(self) -> dict[str, object]:
        row = json.loads(self.run("status", "--json").stdout)["products"][0]
        assert isinstance(row, dict)
        return row


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "tls", Publisher(iat=int(time.time()) - 100)) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, server: Server) -> Home:
    return Home(tmp_path / "machine", server)


def test_a_service_activates_at_its_first_start_and_stops_when_told(home: Home) -> None:
    key = home.publisher.key()
    assert home.run("install-key", "-", stdin=key.text() + "\n").returncode == 0
    service = home.start("run")
    try:
        grant = home.folder / "home/client" / home.publisher.pub / "products" / PRODUCT / "grant.json"
        until(grant.exists)
        words = Path(f"/proc/{service.pid}/cmdline").read_bytes()
        assert not any(group.encode() in words for group in key.text().split("-")[:4])
        assert home.status["state"] == 1, "a reader is not kept out by the service"
    finally:
        service.send_signal(signal.SIGTERM)
        out, err = service.communicate(timeout=15)
    assert (service.returncode, out) == (0, "")
    assert [line.split()[0] for line in err.splitlines()] == ["12288", "12289"], "its log, and nothing else"
    for path in home.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(group.encode() in data for group in [key.symbols, *key.text().split("-")[:4]]), (
                path
            )


def test_an_activation_that_is_killed_is_asked_for_again_by_the_same_bytes(
    home: Home, server: Server
) -> None:
    home.run("install-key", "-", stdin=home.publisher.key().text())
    server.misbehave = slow(2)
    asking = home.start("activate")
    try:
        until(lambda: len(server.requests) == 1)
    finally:
        asking.kill()
        asking.communicate()
    server.misbehave = None
    done = home.run("activate", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == 1
    assert len(server.requests) == 2
    assert len(set(server.requests)) == 1


def test_a_second_command_waits_for_the_first(home: Home, server: Server) -> None:
    home.run("install-key", "-", stdin=home.publisher.key().text())
    server.misbehave = None
    both = [home.start("activate", "--json") for _ in range(2)]
    outs = [one.communicate(timeout=30)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert [json.loads(out)["state"] for out in outs] == [1, 1]
    assert len(server.requests) == 1, "the second found it activated"
