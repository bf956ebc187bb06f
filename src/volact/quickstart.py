"""``volact quickstart``: the main job on this machine, with real processes, files and HTTPS.

A laboratory publisher sets up its authority and issues a MAK of 100 and a KMS host key. Three machines (three homes
with their own facts) activate with the MAK. An enterprise's KMS host is activated with its key, and 27 machines call
it: 24 are told that the count is too low, three get a lease, and at their next try the 24 do too. Everything goes
through the public commands and the public addresses; what is here is only their order, the sample data, and the
words around them.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from volact import config, console, signing
from volact.calls import Caller, problem_of
from volact.children import Volact, free_port
from volact.client.cli import Parser
from volact.console import Console
from volact.files import write_durably
from volact.protocol import ids, keys, trust
from volact.protocol.policy import REMAINING_PROOF
from volact.protocol.problems import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from volact.children import Service

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
"""Sample machines with the MAK: two desktops and a virtual one."""
KMS_MACHINES = 27
SAID_EACH = 9
"""After how many machines a step of theirs says how far it is."""
AT_ONCE = 2
"""How many machines' commands run side by side."""


def kms_facts(number: int) -> dict[str, object]:
    """The facts of sample machine `number` of the KMS host's: every third is virtual."""
    virtual = number % 3 == 0
    return {
        "uuid": f"4c4c4544-0051-4b10-8036-c2c04f5a{number:04x}",
        **({} if virtual else {"board": f"/8K2QZN{number:02}/CNWS2000520{number:03}/"}),
        "disk": f"S6PUNX0T9{number:05}",
        "os": f"5be0cd19137e2179a54ff53a5f1d{number:04x}",
        "net": f"54:bf:64:7b:20:{number:02x}",
        "cpu": "AuthenticAMD 25 97 2",
        "virtual": virtual,
        **({"hypervisor": "kvm"} if virtual else {}),
    }


class Publisher:
    """The publisher's side: its authority, set up by its commands."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`."""
        self.volact = Volact(folder / "publisher")
        self.product_file = folder / f"{PRODUCT}.volact-product"
        self._folder = folder
        self._csv = folder / "mak.csv"
        self._host_csv = folder / "kms-host.csv"
        self._done = folder / "publisher.json"
        self._port = 0
        self.pub = ""

    @property
    def is_set_up(self) -> bool:
        """Whether an earlier run set everything up; one of a version without a KMS host did not."""
        return self._done.exists() and self._host_csv.exists()

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
        self._issue("kms-host", self._host_csv)
        write_durably(self._done, json.dumps({"root": self.pub, "port": self._port}).encode())

    def issue(self, activations: int, file: Path) -> None:
        """Issue a MAK into a CSV file."""
        self._issue("mak", file, "--activations", str(activations))

    def _issue(self, kind: str, file: Path, *more: str) -> None:
        words = ["--product", PRODUCT, "--customer", CUSTOMER, "--kind", kind, *more]
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

    def host_key(self) -> str:
        """The KMS host key, likewise."""
        return read_keys(self._host_csv)[0]


class Host:
    """The enterprise's side: its KMS host, set up and activated by its commands."""

    def __init__(self, folder: Path, publisher: Publisher) -> None:
        """Keep everything in a folder of its own; `publisher` listens."""
        self.volact = Volact(folder / "kms-host")
        self._publisher = publisher
        self._log = folder / "kms-host.log"
        self._done = folder / "kms-host.json"
        self.port = 0

    def set_up(self) -> None:
        """Init, install the key, activate; or take an earlier run's."""
        if self._done.exists():
            self.port = json.loads(self._done.read_bytes())["port"]
            return
        publisher = self._publisher
        # What an interrupted run left is of no use.
        shutil.rmtree(self.volact.home, ignore_errors=True)
        self.volact.home.mkdir(parents=True)
        self.volact("kmshost", "init", f"--root={publisher.pub}", str(publisher.product_file))
        self.volact("kmshost", "install-key", "-", stdin=publisher.host_key() + "\n")
        self.volact("kmshost", "activate", "--authority", publisher.url)
        self.port = free_port()
        write_durably(self._done, json.dumps({"port": self.port}).encode())

    @property
    def address(self) -> str:
        """Where it listens, as `/skms` takes it."""
        return f"127.0.0.1:{self.port}"

    def serve(self) -> Service:
        """Start the host as a process of its own."""
        words = ("kmshost", "serve", "--listen", self.address)
        return self.volact.serve(*words, log=self._log, address=("127.0.0.1", self.port))

    def count(self) -> tuple[int, int]:
        """What the host counts, and what it requires."""
        (product,) = self.volact("kmshost", "status")["products"]
        return product["count"], product["required"]


def read_keys(file: Path) -> list[str]:
    """The keys in a CSV file that ``key issue`` wrote."""
    with file.open(encoding="utf-8", newline="") as rows:
        return [row["key"] for row in csv.DictReader(rows)]


def machine(folder: Path, name: str, shown: dict[str, object]) -> Volact:
    """The commands of sample machine `name`, which has a home of its own and the facts that it has `shown`."""
    home = folder / name
    home.mkdir(parents=True, exist_ok=True)
    facts = home / "facts.json"
    facts.write_text(json.dumps(shown, indent=2), "utf-8")
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


def decoded(home: Path, file: str, name: str, roots: trust.Roots) -> tuple[trust.Granted, str]:
    """A machine's stored confirmation or lease, verified again from its file, and told for people."""
    (path,) = home.glob(f"client/*/products/{PRODUCT}/{file}")
    granted = trust.verify(json.loads(path.read_bytes()), name, roots)
    signers = [f"{link['rol']} {link['sub'][:12]}…" for link in granted.chain]
    lines = [
        f"  file      {path}",
        f"  signed by root {roots.pub[:12]}… -> {' -> '.join(signers)} -> this {name}",
        *(
            f"  {claim:<9} {json.dumps(value, ensure_ascii=False)}"
            for claim, value in granted.document.claims.items()
        ),
        f"  verified  {len(granted.chain) + 2} signatures, to the pinned root; no network was needed",
    ]
    return granted, "\n".join(lines)


def play(folder: Path, say: Console, *, stay: bool) -> int:
    """Run it all in an empty `folder` and answer with the counts."""
    began = time.monotonic()
    publisher = Publisher(folder)
    say.remark(
        "1. The publisher sets up its authority and issues a MAK of 100 activations and a KMS host key."
    )
    publisher.set_up()
    with ExitStack() as running:
        authority = publisher.serve()
        running.callback(authority.stop)
        say.remark(
            f"   root: {publisher.pub}\n   the authority listens on {publisher.url} (pid {authority.process.pid})"
        )
        said = _with_mak(folder, publisher, say)
        host = Host(folder, publisher)
        say.remark("4. The enterprise sets up a KMS host and activates it with its key.")
        host.set_up()
        service = host.serve()
        running.callback(service.stop)
        say.remark(f"   the host listens on {host.address} (pid {service.process.pid})")
        lease = _with_kms(folder, publisher, host, say)
        say.remark(f"8. What the host counts, and the authority's signed statement ({_since(began)} in all):")
        count, required = host.count()
        members = {
            "publisher": publisher.pub,
            "url": publisher.url,
            "host": host.address,
            "folder": str(folder),
        }
        counts = {"count": count, "required": required}
        bought, remaining = said["bought"], said["remaining"]
        say.answer(
            {**members, **said, "lease": lease, **counts},
            f"count: {count} (required {required})\nremaining: {remaining} of {bought}",
        )
        if stay:
            say.remark(
                f"Authority and host go on until Ctrl-C; everything is in {folder}."
                f" Try: VOLACT_HOME={host.volact.home} volact kmshost clients"
            )
            service.process.wait()
    return console.DONE


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _roots(publisher: Publisher) -> trust.Roots:
    bundle = trust.read_bundle(publisher.product_file.read_bytes())
    return trust.open_roots(bundle["root"], publisher.pub, bundle["roots"])


def _with_mak(folder: Path, publisher: Publisher, say: Console) -> dict[str, Any]:
    """Three machines with the MAK; answers their count and one confirmation."""
    say.remark("2. Three machines install the product, the MAK, and activate for good over HTTPS.")
    for name, shown in MACHINES.items():
        say.remark("   " + activate(machine(folder, name, shown), name, publisher))
    roots = _roots(publisher)
    granted, text = decoded(folder / next(iter(MACHINES)), "grant.json", "confirmation", roots)
    say.remark(f"3. One confirmation, decoded and verified:\n{text}")
    statement = remaining_count(publisher, roots)
    return {
        "confirmation": granted.document.claims,
        "bought": statement["bought"],
        "remaining": statement["remaining"],
    }


def _with_kms(folder: Path, publisher: Publisher, host: Host, say: Console) -> dict[str, Any]:
    """27 machines call the host in two rounds; answers one lease."""
    many = KMS_MACHINES
    names = [f"pc-{number:04}" for number in range(1, many + 1)]
    machines = {name: machine(folder, name, kms_facts(at)) for at, name in enumerate(names, start=1)}
    say.remark(f"5. {many} machines install the product without a key and call the host.")

    def prepare(volact: Volact) -> None:
        volact("client", "install", str(publisher.product_file), f"--root={publisher.pub}")
        volact("/skms", host.address, program="slmgr")

    with ThreadPoolExecutor(AT_ONCE) as pool:
        with progress(say, "have the product installed", many) as count:
            for _ in pool.map(prepare, machines.values()):
                count()
        refused = _round(pool, machines, say)
        if refused:
            say.remark("6. The refused try again, as each would by itself after two hours.")
            _round(pool, {name: machines[name] for name in refused}, say)
    granted, text = decoded(folder / names[0], "lease.json", "lease", _roots(publisher))
    say.remark(f"7. One lease, decoded and verified:\n{text}")
    return granted.document.claims


def _round(pool: ThreadPoolExecutor, machines: dict[str, Volact], say: Console) -> list[str]:
    """Let every machine call once; answers those that were told that the count is too low."""

    def call(item: tuple[str, Volact]) -> tuple[str, Refusal | None]:
        name, volact = item
        try:
            volact("client", "activate")
        except Refused as error:
            if error.refusal.code != "count-insufficient":
                raise
            return name, error.refusal
        return name, None

    answers = []
    with progress(say, "have called", len(machines)) as count:
        for answer in pool.map(call, machines.items()):
            answers.append(answer)
            count()
    refused = [name for name, refusal in answers if refusal]
    counts = sorted(dict(refusal.extra)["count"] for _, refusal in answers if refusal)
    if refused:
        required = next(dict(refusal.extra)["required"] for _, refusal in answers if refusal)
        say.remark(
            f"   {len(refused)} were refused: count-insufficient, count {counts[0]} to {counts[-1]}, required {required}"
        )
    say.remark(f"   {len(answers) - len(refused)} got a lease")
    return refused


@contextmanager
def progress(say: Console, what: str, of: int) -> Iterator[Callable[[], None]]:
    """Tell how far a step is, one machine a call: by a bar on a terminal, by a line for some machines elsewhere."""
    done = 0
    if say.json or not sys.stderr.isatty():

        def line() -> None:
            nonlocal done
            done += 1
            if done % SAID_EACH == 0 and done < of:
                say.remark(f"   {done} of {of} {what}")

        yield line
        return
    from rich.console import Console as Terminal
    from rich.progress import Progress

    with Progress(console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task(f"   machines {what}", total=of)
        yield lambda: bar.advance(task)


def activate(volact: Volact, name: str, publisher: Publisher) -> str:
    """Install the product and the key on a machine, activate it, and say what came of it."""
    volact("client", "install", str(publisher.product_file), f"--root={publisher.pub}")
    volact("client", "install-key", "--product", PRODUCT, "-", stdin=publisher.key() + "\n")
    volact("client", "activate")
    (product,) = volact("client", "status")["products"]
    kind = "virtual" if product["virtual"] else "physical"
    return f"{name:<9} {product['state_name']:<9} key …-{product['partial_key']}  {kind}  CMID {product['cmid'][:12]}…"


def parser() -> Parser:
    """The command line."""
    found = Parser(prog="volact quickstart", description="See volact work on this machine.")
    found.add_argument(
        "--exit", action="store_true", help="end when all is shown (also with CI=true or no terminal)"
    )
    found.add_argument(
        "--fresh",
        action="store_true",
        help="remove what an earlier quickstart left (else it goes on with it)",
    )
    found.add_argument("--json", action="store_true", help="standard output is one JSON value")
    return found


def main(arguments: list[str]) -> int:
    """Run ``volact quickstart`` and say its exit code."""
    say = Console(json="--json" in arguments, words=arguments)
    try:
        return console.run(say, lambda: _run(say, arguments))
    except SystemExit as stop:  # --help has been printed
        return int(stop.code or 0)


def _run(say: Console, arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    stay = not options.exit and os.environ.get("CI") != "true" and sys.stdin.isatty() and sys.stdout.isatty()
    folder = config.home() / "quickstart"
    if folder.exists() and (options.fresh or not Publisher(folder).is_set_up):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return play(folder, say, stay=stay)
