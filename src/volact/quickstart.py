"""``volact quickstart``: the main job on this machine, with real processes, files and HTTPS.

A laboratory publisher sets up its authority and issues a MAK of 100; three machines (three homes with their own
facts) install the product and activate. Everything goes through the public commands and the public HTTP address;
what is here is only their order, the sample data, and the words around them.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from volact import config, console, signing
from volact.calls import Caller, problem_of
from volact.console import Console
from volact.files import write_durably
from volact.protocol import ids, keys, trust
from volact.protocol.policy import REMAINING_PROOF
from volact.protocol.problems import BrokenData, Refusal, Refused

if TYPE_CHECKING:
    from pathlib import Path

PRODUCT = "com.example.cad"
PRODUCT_FILE = """\
id = "com.example.cad"
name = "Example CAD"
edition = "client"

[authority]
url = "{url}"
"""
CUSTOMER = "Example Manufacturing"
ACTIVATIONS = 100
START_LIMIT = 15.0
"""Seconds within which a service must listen."""

MACHINES: dict[str, dict[str, object]] = {
    "ws-0101": {
        "uuid": "4c4c4544-0042-3510-8052-b4c04f484e31",
        "board": "/7B5RHN1/CNFCW0018500CD/",
        "disk": "S4EWNX0R412734",
        "os": "9d1c7f0b3a554d0c8a5e0d5f7f1b2a01",
        "net": "54:bf:64:7a:11:01",
        "cpu": "GenuineIntel 6 158 10",
        "virtual": False,
    },
    "ws-0102": {
        "uuid": "4c4c4544-0042-3510-8052-b4c04f484e32",
        "board": "/7B5RHN2/CNFCW0018500CE/",
        "disk": "S4EWNX0R412811",
        "os": "1f6a2c9e77e84b63a4b1c2d3e4f50602",
        "net": "54:bf:64:7a:11:02",
        "cpu": "GenuineIntel 6 158 10",
        "virtual": False,
    },
    "vdi-0007": {
        "uuid": "564d2f1c-9a6e-7f43-8c1b-0a5d3e7c9b07",
        "disk": "6000c29a7f3b5d1e",
        "os": "c0ffee0d5a7b4e1f9d8c7b6a59483703",
        "net": "00:50:56:9a:3c:07",
        "cpu": "AuthenticAMD 25 1 1",
        "virtual": True,
        "hypervisor": "vmware",
    },
}
"""Sample machines: two desktops and a virtual one."""


class Volact:
    """The command ``volact`` in a home of its own; each call is one child process."""

    def __init__(self, home: Path, **environ: str) -> None:
        """Run commands with VOLACT_HOME set to `home` and with `environ` besides."""
        self.home = home
        self.environ = {**os.environ, **environ, config.HOME: str(home)}

    def __call__(self, *words: str, stdin: str = "") -> Any:  # noqa: ANN401 - the command's JSON value
        """Run a command and return its JSON value.

        Raises:
            Refused: with the command's own problem, if it did not end with 0.
        """
        done = subprocess.run(
            [sys.executable, "-m", "volact", *words, "--json"],
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        value = json.loads(done.stdout) if done.stdout.strip() else None
        if done.returncode:
            said = problem_of(value) if isinstance(value, dict) else None
            raise Refused(
                said or Refusal("internal", f"volact {' '.join(words)}: {done.stderr.strip()[-500:]}")
            )
        return value

    def serve(self, *words: str, log: Path, address: tuple[str, int]) -> Service:
        """Start a service and wait until it listens."""
        with log.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "volact", *words],
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        service = Service(process, log)
        service.wait_until_listening(address)
        return service


class Service(NamedTuple):
    """A child process that listens; it is ended by its own pid."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_listening(self, address: tuple[str, int]) -> None:
        """Return when a connection to `address` succeeds.

        Raises:
            BrokenData: if the process ends or takes longer than START_LIMIT.
        """
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection(address, timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise BrokenData(f"The service did not start; see {self.log}.", "internal")

    def stop(self) -> None:
        """Ask the process to end and wait; end it if it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=START_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Publisher:
    """The publisher's side: its authority, set up by its commands."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`."""
        self.volact = Volact(folder / "publisher")
        self.product_file = folder / f"{PRODUCT}.volact-product"
        self._folder = folder
        self._csv = folder / "mak.csv"
        self._done = folder / "publisher.json"
        self._port = 0
        self.pub = ""

    @property
    def is_set_up(self) -> bool:
        """Whether an earlier run set everything up."""
        return self._done.exists()

    @property
    def url(self) -> str:
        """Where the authority listens."""
        return f"https://127.0.0.1:{self._port}"

    def set_up(self) -> None:
        """Init, add the product and a customer, issue the MAK, export the product file; or take an earlier run's."""
        if self.is_set_up:
            known = json.loads(self._done.read_bytes())
            self.pub, self._port = known["root"], known["port"]
            return
        self._port = free_port()
        self.volact.home.mkdir(parents=True)
        self.pub = self.volact("authority", "init", "--name", "Example Software", "--url", self.url, "--lab")[
            "root"
        ]
        toml = self._folder / "product.toml"
        toml.write_text(PRODUCT_FILE.format(url=self.url), "utf-8")
        self.volact("authority", "product", "add", str(toml))
        self.volact("authority", "product", "export", PRODUCT, "-o", str(self.product_file))
        self.volact("authority", "customer", "add", CUSTOMER)
        self.issue(ACTIVATIONS, self._csv)
        write_durably(self._done, json.dumps({"root": self.pub, "port": self._port}).encode())

    def issue(self, activations: int, file: Path) -> None:
        """Issue a MAK into a CSV file."""
        words = [
            "--product",
            PRODUCT,
            "--customer",
            CUSTOMER,
            "--kind",
            "mak",
            "--activations",
            str(activations),
        ]
        self.volact("authority", "key", "issue", *words, "--csv", str(file))

    def serve(self) -> Service:
        """Start the authority as a process of its own."""
        address = f"127.0.0.1:{self._port}"
        return self.volact.serve(
            "authority",
            "serve",
            "--listen",
            address,
            log=self._folder / "authority.log",
            address=("127.0.0.1", self._port),
        )

    def key(self) -> str:
        """The MAK, as the customer received it."""
        return read_keys(self._csv)[0]


def read_keys(file: Path) -> list[str]:
    """The keys in a CSV file that ``key issue`` wrote."""
    with file.open(encoding="utf-8", newline="") as rows:
        return [row["key"] for row in csv.DictReader(rows)]


def machine(folder: Path, name: str) -> Volact:
    """The commands of sample machine `name`, which has a home and facts of its own."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    facts = home / "facts.json"
    facts.write_text(json.dumps(MACHINES[name], indent=2), "utf-8")
    return Volact(home, VOLACT_MACHINE_FACTS=str(facts))


def remaining_count(publisher: Publisher, roots: trust.Roots) -> dict[str, Any]:
    """Ask the authority, by its public address, what the key bought and how much of it remains (M3)."""
    product_key = keys.read(publisher.key())
    if isinstance(product_key, Refusal):
        raise Refused(product_key)
    signer = signing.Signer(product_key.private_key(publisher.pub))
    now = int(time.time())
    claims = {
        "pub": publisher.pub,
        "lab": True,
        "iat": now,
        "jti": ids.b64u(os.urandom(16)),
        "aud": publisher.pub,
        "op": "remaining",
        "prd": PRODUCT,
        "exp": now + REMAINING_PROOF,
    }
    bundle = trust.read_bundle(publisher.product_file.read_bytes())
    product = trust.verify(bundle, "product", roots).document
    with Caller(publisher.url, product["tls"]) as caller:
        answer = caller.post("/v1/requests", {"proof": signer.sign("key-proof", claims)}).bundle()
    refusal = problem_of(answer)
    if refusal:
        raise Refused(refusal)
    return trust.verify(answer, "statement", roots).document.claims


def decoded(home: Path, roots: trust.Roots) -> tuple[trust.Granted, str]:
    """A machine's stored confirmation, verified again from its file, and told for people."""
    (grant,) = home.glob(f"client/*/products/{PRODUCT}/grant.json")
    granted = trust.verify(json.loads(grant.read_bytes()), "confirmation", roots)
    issuer = granted.chain[0]
    lines = [
        f"  file      {grant}",
        f"  signed by root {roots.pub[:12]}… -> issuer {issuer['sub'][:12]}… -> this confirmation",
        *(
            f"  {claim:<9} {json.dumps(value, ensure_ascii=False)}"
            for claim, value in granted.document.claims.items()
        ),
        "  verified  3 signatures, to the pinned root; no network was needed",
    ]
    return granted, "\n".join(lines)


def play(folder: Path, say: Console, *, stay: bool) -> int:
    """Run it all in an empty `folder` and answer with the counts."""
    began = time.monotonic()
    publisher = Publisher(folder)
    say.remark("1. The publisher sets up its authority and issues a MAK of 100 activations.")
    publisher.set_up()
    service = publisher.serve()
    try:
        say.remark(
            f"   root: {publisher.pub}\n   the authority listens on {publisher.url} (pid {service.process.pid})"
        )
        say.remark("2. Three machines install the product, the key, and activate over HTTPS.")
        for name in MACHINES:
            say.remark("   " + activate(machine(folder, name), name, publisher))
        bundle = trust.read_bundle(publisher.product_file.read_bytes())
        roots = trust.open_roots(bundle["root"], publisher.pub, bundle["roots"])
        granted, text = decoded(folder / next(iter(MACHINES)), roots)
        say.remark(f"3. One confirmation, decoded and verified:\n{text}")
        statement = remaining_count(publisher, roots)
        say.remark(f"4. The authority's own signed statement ({time.monotonic() - began:.1f} s in all):")
        say.answer(
            {
                "publisher": publisher.pub,
                "url": publisher.url,
                "folder": str(folder),
                "confirmation": granted.document.claims,
                "bought": statement["bought"],
                "remaining": statement["remaining"],
            },
            f"remaining: {statement['remaining']} of {statement['bought']}",
        )
        if stay:
            say.remark(
                f"The authority goes on until Ctrl-C. Try: VOLACT_HOME={publisher.volact.home} "
                "volact authority activation list"
            )
            service.process.wait()
    finally:
        service.stop()
    return console.DONE


def activate(volact: Volact, name: str, publisher: Publisher) -> str:
    """Install the product and the key on a machine, activate it, and say what came of it."""
    volact("client", "install", str(publisher.product_file), "--root", publisher.pub)
    volact("client", "install-key", "--product", PRODUCT, "-", stdin=publisher.key() + "\n")
    volact("client", "activate")
    (product,) = volact("client", "status")["products"]
    kind = "virtual" if product["virtual"] else "physical"
    return f"{name:<9} {product['state_name']:<9} key …-{product['partial_key']}  {kind}  CMID {product['cmid'][:12]}…"


def main(arguments: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="volact quickstart", description="See volact work on this machine.")
    parser.add_argument(
        "--exit", action="store_true", help="end when all is shown (also with CI=true or no terminal)"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="remove what an earlier quickstart left (else it goes on with it)",
    )
    parser.add_argument("--json", action="store_true", help="standard output is one JSON value")
    options = parser.parse_args(arguments)
    say = Console(json=options.json)
    stay = not options.exit and os.environ.get("CI") != "true" and sys.stdin.isatty() and sys.stdout.isatty()
    folder = config.home() / "quickstart"

    def command() -> int:
        if folder.exists() and (options.fresh or not Publisher(folder).is_set_up):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return play(folder, say, stay=stay)

    return console.run(say, command)
