"""The authority as it really runs: its own commands and its own `serve` process in a home of a test's own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import inprocess
from namespaces import Namespace
from volact import calls
from volact.protocol import keys
from volact.protocol.keys import ProductKey
from world import PRODUCT, Machine, claims_of, verified

PRODUCT_FILE = f"""\
id = "{PRODUCT}"
name = "Example CAD"
edition = "client"
"""
TIMEOUT = 60


class RoleHome:
    """A VOLACT_HOME with one server role in it."""

    role: str

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOLACT_")},
            "VOLACT_HOME": str(folder),
            **{f"VOLACT_{self.role}_{name}".upper(): str(value) for name, value in settings.items()},
        }

    def run(self, *arguments: str, code: int = 0, stdin: str = "") -> Any:
        """Run a command of this home's role with --json; answer its value. A service has a process of its own."""
        words = ("volact", self.role, *arguments, "--json")
        run = inprocess.process if arguments[0] == "serve" else inprocess.run
        done = run(*words, environ=self.environ, stdin=stdin)
        assert done.code == code, (arguments, done)
        assert "Traceback" not in done.err
        return json.loads(done.out) if done.out else None


class Home(RoleHome):
    """A VOLACT_HOME with an authority in it."""

    role = "authority"

    def set_up(self, policy: str = "", *options: str) -> None:
        """A laboratory's authority with one product (`policy` is more TOML of it) and one customer."""
        self.pub: str = self.run("init", "--lab", *options)["root"]
        file = self.folder / "product.toml"
        file.write_text(PRODUCT_FILE + policy)
        self.run("product", "add", str(file))
        self.run("customer", "add", "Contoso")
        exported = self.folder / "cad.volact-product"
        self.run("product", "export", PRODUCT, "-o", str(exported))
        self.product = json.loads(exported.read_text())
        self.pins: list[str] = claims_of(self.product["token"])["tls"]

    def say_address(self, url: str) -> None:
        """From now on the product's file says where the authority is."""
        file = self.folder / "product.toml"
        file.write_text(file.read_text() + f'[authority]\nurl = "{url}"\n')
        self.run("product", "add", str(file))
        exported = self.folder / "cad.volact-product"
        self.run("product", "export", PRODUCT, "-o", str(exported))
        self.product = json.loads(exported.read_text())

    def key(self, kind: str = "mak", activations: int | None = 10) -> ProductKey:
        more = ["--activations", str(activations)] if kind == "mak" else []
        issued = self.run(
            "key", "issue", "--product", PRODUCT, "--customer", "Contoso", "--kind", kind, *more
        )
        read = keys.read(issued["keys"][0])
        assert isinstance(read, ProductKey)
        return read

    def machine(self) -> Machine:
        return Machine(self.pub)

    def confirmation(self, bundle: dict[str, Any]) -> dict[str, Any]:
        """A confirmation's claims, verified to the root."""
        return verified(bundle, "confirmation", self.product["root"], self.pub).document.claims


_FORKER = """
import os, signal, sys
from importlib import import_module
cli, _ = (import_module(f"volact.{sys.argv[1]}.{name}") for name in ("cli", "serving"))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    if os.fork() == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os._exit(cli.main(["serve", "--listen", "127.0.0.1:0", "--json"]))
"""


class Forked:
    """Real `serve` processes, one after the other, each forked from one that has done its imports: a tenth of a second.

    They can be killed like any other. Use as a context.
    """

    def __init__(self, home: Any, role: str = "authority") -> None:
        self.home = home
        self.log = (home.folder / "serve.log").open("ab")
        self.forker = subprocess.Popen(
            [sys.executable, "-c", _FORKER, role],
            env=home.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )
        self.pid = 0

    def __enter__(self) -> Self:
        return self

    def start(self) -> None:
        """Start the next one and wait until it listens."""
        assert self.forker.stdin
        assert self.forker.stdout
        self.forker.stdin.write(b"\n")
        self.forker.stdin.flush()
        line = self.forker.stdout.readline()
        if not line:
            raise AssertionError((self.home.folder / "serve.log").read_text())
        said = json.loads(line)
        self.url: str = said["listening"]
        self.pid = said["pid"]

    def caller(self) -> calls.Caller:
        return calls.Caller(self.url, self.home.pins)

    def kill(self) -> None:
        """Pull the plug, and see that it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        until = time.monotonic() + TIMEOUT
        while True:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                break
            assert time.monotonic() < until, "it does not die"
            time.sleep(0.001)
        self.pid = 0

    def __exit__(self, *_: object) -> None:
        if self.pid:
            self.kill()
        self.forker.kill()
        self.forker.communicate()
        self.log.close()


@contextmanager
def reachable(folder: Path, policy: str = "") -> Iterator[Home]:
    """An authority that serves, and whose product file says where."""
    home = Home(folder)
    home.set_up(policy)
    with Serving(home) as serving:
        home.say_address(serving.url)
        yield home


class Serving:
    """A running `volact authority serve`; use as a context."""

    role = "authority"

    def __init__(self, home: Home, listen: str = "127.0.0.1:0", within: Namespace | None = None) -> None:
        self.home = home
        self.log = (home.folder / "serve.log").open("ab")
        words = (sys.executable, "-m", "volact", self.role, "serve", "--listen", listen, "--json")
        self.process = subprocess.Popen(
            within.words(*words) if within else words,
            env=home.environ,
            stdout=subprocess.PIPE,
            stderr=self.log,
        )

    def __enter__(self) -> Self:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            self.end()
            raise AssertionError((self.home.folder / "serve.log").read_text())
        self.url: str = json.loads(line)["listening"]
        return self

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def caller(self) -> calls.Caller:
        return calls.Caller(self.url, self.home.pins)

    def end(self) -> int:
        """End it as a service manager would; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(TIMEOUT)
        if self.process.stdout:
            self.process.stdout.close()
        self.log.close()
        return code

    def kill(self) -> None:
        """Pull the plug."""
        self.process.kill()
        self.end()

    def __exit__(self, *_: object) -> None:
        self.end()
