"""Write docs/cli.md to standard output: every command's help, and the shape of its JSON as it really answers.

Runs all commands once in a temporary laboratory, the authority served on loopback, so that the page cannot say
what the commands do not do. `make docs` stores the result; `make test` compares. Commands run in this process, through
the entry points of the programs, the story beside them in a fork of it; services are processes of their own.
"""

import contextlib
import io
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclopts import App

import vamt_scenario
from volact import children, cli, quickstart, slmgr
from volact.client.cli import parser as client_parser
from volact.console import REFUSED
from volact.kmshost.cli import app as host_app
from volact.lab.cli import app as lab_app
from volact.protocol.problems import PROBLEMS
from volact.vamt.cli import app as vamt_app

HEAD = """\
# Commands

This page is generated (`make docs`) by running every command; `make test` fails when it is out of date.

- `--json`: standard output is exactly one JSON value; prose and progress go to standard error. A refusal is its
  problem document (RFC 9457) there. The shapes below are append-only: members are added, never renamed or removed.
  Where there is nothing to tell, an object may be null, too.
- Exit codes: 0 done, 1 refused (the code is printed), 2 usage, 3 could not reach, 4 broken data.
- `KEY` may be `-` (standard input) or `@FILE` everywhere, so that no key stands in a list of processes.
- Times are RFC 3339, UTC. `VOLACT_HOME` holds everything: by default the system's folder for root, the user's data
  folder otherwise.
"""
ON_HOST = " (on a KMS host)"
STORY = """\
id = "com.example.cad"
name = "Example CAD"
edition = "client"

[policy]
thresholds = [{ count = "machines", minimum = 3 }]
validity = "2d"
renewal = "1h"
retry = "30m"
record_lifetime = "2h"
"""
STORY_DAYS = "1"
FORK = multiprocessing.get_context("fork")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def kind(value: Any) -> Any:
    """The shape of a JSON value: names and types, no values."""
    if isinstance(value, dict):
        return {name: kind(member) for name, member in value.items()}
    if isinstance(value, list):
        return [kind(value[0])] if value else []
    if isinstance(value, str):
        return "time" if TIME.fullmatch(value) else "text"
    return "null" if value is None else {bool: "true or false", int: "number", float: "number"}[type(value)]


def merged(left: Any, right: Any) -> Any:
    """One shape for two answers of the same command."""
    if left in (None, []):
        return right
    if right in (left, []):
        return left
    if isinstance(left, dict) and isinstance(right, dict):
        return {name: merged(left.get(name), right.get(name, left.get(name))) for name in {**left, **right}}
    if isinstance(left, list) and isinstance(right, list):
        return [merged(left[0], right[0])]
    if "null" in (left, right):
        other = right if left == "null" else left
        return other if not isinstance(other, str) else f"{other.removesuffix(' or null')} or null"
    return (
        left
        if isinstance(left, dict | list)
        else f"{left} or {right}"
        if str(right) not in str(left)
        else left
    )


class Scenario:
    """Runs commands, in this process, and remembers the shapes of what they answer."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.shapes: dict[str, Any] = {}

    def __call__(
        self,
        run: children.Volact,
        name: str,
        *words: str,
        stdin: str = "",
        program: str = "volact",
        where: str = "",
        code: int = 0,
    ) -> Any:
        """Run `name` with `words`; its answer's shape is kept under `name`, and `where` it was run."""
        words = (*name.split(), *words)
        value = called(program, words, run.environ, stdin, code)
        key = f"{program} {name}{where}"
        if code:
            return value
        self.remember(key, value)
        return value

    def remember(self, key: str, value: Any) -> None:
        """Keep the shape of an answer under `key`."""
        self.shapes[key] = merged(self.shapes[key], kind(value)) if key in self.shapes else kind(value)


def called(
    program: str, words: Sequence[str], environ: Mapping[str, str], stdin: str = "", code: int = 0
) -> Any:
    """What a command answers that is run in this process."""
    run = slmgr.main if program == "slmgr" else cli.main
    said, remarks, before = io.StringIO(), io.StringIO(), (sys.stdin, dict(os.environ))
    try:
        sys.stdin = io.StringIO(stdin)
        use(environ)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(remarks):
            done = run([*words, "--json"])
    finally:
        sys.stdin = before[0]
        use(before[1])
    if done != code:
        raise SystemExit(f"{program} {words}: {said.getvalue()}{remarks.getvalue()}")
    return json.loads(said.getvalue())


def use(environ: Mapping[str, str]) -> None:
    """Let this be the environment."""
    os.environ.clear()
    os.environ.update(environ)


@contextmanager
def laboratory() -> Iterator[tuple[Path, quickstart.Publisher]]:
    """A temporary folder with an empty publisher."""
    with tempfile.TemporaryDirectory(prefix="volact-docs-") as name:
        yield Path(name), quickstart.Publisher(Path(name))


def authority(scenario: Scenario, folder: Path, home: children.Volact, url: str) -> tuple[str, str]:
    """Run the authority's commands; say the root and a MAK."""
    toml = folder / "product.toml"
    toml.write_text(quickstart.PRODUCT_FILE.format(url=url), "utf-8")
    root = scenario(home, "authority init", "--name", "Example Software", "--url", url, "--lab")["root"]
    scenario(home, "authority product add", str(toml))
    scenario(home, "authority product list")
    scenario(home, "authority product export", quickstart.PRODUCT, "-o", str(folder / "cad.volact-product"))
    scenario(home, "authority customer add", "Example Manufacturing")
    scenario(home, "authority customer list")
    issue = ("--product", quickstart.PRODUCT, "--customer", "Example Manufacturing", "--kind", "mak")
    made = scenario(home, "authority key issue", *issue, "--activations", "100")
    label = made["labels"][0]
    scenario(home, "authority key list")
    scenario(home, "authority key show", label)
    scenario(home, "authority key bind", label, "--networks", "127.0.0.0/8")
    scenario(home, "authority key bind", label, "--networks", "")
    scenario(home, "authority key raise", label, "120")
    return root, made["keys"][0]


def machine(scenario: Scenario, home: children.Volact, product: Path, root: str, key: str) -> None:
    """Run the client's commands, and slmgr's, on a machine."""
    scenario(home, "client install", str(product), "--root", root)
    scenario(home, "client status")
    scenario(home, "client install-key", "-", stdin=key + "\n")
    scenario(home, "client run", "--once")
    scenario(home, "client activate")
    scenario(home, "client status")
    scenario(home, "client events")
    for switch in ("/dli", "/dlv", "/xpr"):
        scenario(home, switch, program="slmgr")
    for words in (
        ("/sai", "30"),
        ("/sri", "2880"),
        ("/skms", "kms.example.com"),
        ("/skms-domain", "example.com"),
    ):
        scenario(home, *words, program="slmgr")
    for switch in ("/ckhc", "/skhc", "/ckms"):
        scenario(home, switch, program="slmgr")
    scenario(home, "client return")
    scenario(home, "client generalize")
    scenario(home, "/ipk", "-", stdin=key + "\n", program="slmgr")
    scenario(home, "/ato", program="slmgr")


def by_file(
    scenario: Scenario, folder: Path, home: children.Volact, authority_home: children.Volact, key: str
) -> str:
    """Carry a request and its answer by file on another machine; say the activation's id."""
    scenario(home, "/ipk", "-", stdin=key + "\n", program="slmgr")
    request, response = str(folder / "request.json"), str(folder / "response.json")
    scenario(home, "/dti", request, program="slmgr")
    scenario(authority_home, "authority answer", request, "-o", response)
    scenario(home, "/atp", response, program="slmgr")
    scenario(home, "/upk", program="slmgr")
    scenario(home, "/rearm", program="slmgr")
    return str(scenario(authority_home, "authority activation list")[-1]["activation"])


def vamt(
    scenario: Scenario, folder: Path, home: children.Volact, other: children.Volact, root: str, key: str
) -> None:
    """Run VAMT's commands beside the client of one machine; another one's request goes out by a list."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    home.environ["PATH"] = programs
    vamt_scenario.machines(scenario, home, folder, root)
    vamt_scenario.keys(scenario, home, folder, key)
    request = folder / "list-request.json"
    called("slmgr", ("/ipk", "-"), other.environ, key + "\n")
    called("slmgr", ("/dti", str(request)), other.environ)
    vamt_scenario.proxy(scenario, home, folder, root, request)
    port, log = children.free_port(), folder / "vamt-log"
    words = (
        "vamt",
        "serve",
        "--listen",
        f"127.0.0.1:{port}",
        "--passphrase",
        f"@{folder / 'passphrase'}",
        "--json",
    )
    service = home.serve(*words, log=log, address=("127.0.0.1", port))
    deadline = time.monotonic() + children.START_LIMIT
    while '"listening"' not in log.read_text("utf-8") and time.monotonic() < deadline:
        time.sleep(0.05)  # its port is taken a little before it says so
    service.stop()
    remember_serve(scenario, log, "volact vamt serve")
    for one, same in vamt_scenario.LIKE.items():
        scenario.shapes[one] = scenario.shapes[same]


def kms_host(
    scenario: Scenario, folder: Path, home: children.Volact, authority_home: children.Volact, root: str
) -> None:
    """Run the KMS host's commands: activated by file, extended online; one machine calls."""
    product, unused, key = str(folder / "cad.volact-product"), issue(authority_home), issue(authority_home)
    scenario(home, "kmshost init", f"--root={root}", product)
    scenario(home, "kmshost product add", product)
    scenario(home, "kmshost status")
    for one in (unused, key):
        scenario(home, "kmshost install-key", "-", stdin=one + "\n")
    scenario(home, "kmshost status")
    request, response = str(folder / "host-request.json"), str(folder / "host-response.json")
    scenario(home, "kmshost activate", "--request-file", request)
    scenario(authority_home, "authority answer", request, "-o", response)
    scenario(home, "kmshost activate", "--response-file", response)
    scenario(home, "kmshost extend", "--shorten")
    for command, program in (("kmshost activate", "volact"), ("/ato", "slmgr")):
        scenario(home, "/ipk", "-", stdin=key + "\n", program="slmgr", where=ON_HOST)
        for switch in ("/dli", "/dlv"):
            scenario(home, switch, program="slmgr", where=ON_HOST)
        scenario(home, command, program=program, where=ON_HOST if program == "slmgr" else "")
    port = children.free_port()
    words = ("kmshost", "serve", "--listen", f"127.0.0.1:{port}", "--json")
    service = home.serve(*words, log=folder / "host-log", address=("127.0.0.1", port))
    try:
        call_once(scenario, folder, product, root, port)
        fleet(scenario, home, product, root, port)
        for command in ("status", "events", "forecast", "clones"):
            scenario(home, f"kmshost {command}")
        enrolment(scenario, home, folder)
        for row in ("0", "24"):  # one that was refused, and one with a lease
            scenario(home, "kmshost clients", "--limit", "1", "--after", row)
        for switch in ("/dli", "/dlv", "/xpr"):
            scenario(home, switch, program="slmgr", where=ON_HOST)
        for switch, value in (("/sai", "30"), ("/sri", "2880"), ("/sprt", str(children.free_port()))):
            where = "" if switch == "/sprt" else ON_HOST
            scenario(home, switch, value, program="slmgr", where=where)
        publishing(scenario, home)
        for switch in ("/cpri", "/spri"):
            scenario(home, switch, program="slmgr")
        scenario(home, "kmshost firewall", "--for", "windows")
        doctor(scenario, folder)
    finally:
        service.stop()
    remember_serve(scenario, folder / "host-log", "volact kmshost serve")


def enrolment(scenario: Scenario, home: children.Volact, folder: Path) -> None:
    """The list of machines that count under a strong count."""
    file = folder / "machines.csv"
    file.write_text("A" * 43)
    scenario(home, "kmshost enrol", str(file), where=" FILE")
    scenario(home, "kmshost enrol")


def publishing(scenario: Scenario, home: children.Volact) -> None:
    """The commands of DNS: a domain is set and no key, so that nothing is sent."""
    for switch in ("/cdns", "/sdns"):
        scenario(home, switch, program="slmgr")
    scenario(home, "kmshost publish", "--show", where=" --show")
    environ = {**home.environ, "VOLACT_KMSHOST_DNS_DOMAINS": "corp.example"}
    words = ("kmshost", "publish")
    scenario.remember("volact kmshost publish", called("volact", words, environ, code=REFUSED))


def doctor(scenario: Scenario, folder: Path) -> None:
    """The doctor on the machine that called, whose host is set to a port where none is: so that there is more to say."""
    environ = quickstart.machine(folder, "caller", quickstart.kms_facts(1)).environ
    called("slmgr", ("/skms", f"127.0.0.1:{children.free_port()}"), environ)
    value = called("volact", ("doctor",), environ, code=REFUSED)
    value["checks"].sort(key=lambda one: not one["targets"])  # the shape of the first stands for all
    scenario.remember("volact doctor", value)


def issue(authority_home: children.Volact) -> str:
    """Issue a KMS host key."""
    words = ("--product", quickstart.PRODUCT, "--customer", "Example Manufacturing", "--kind", "kms-host")
    return str(called("volact", ("authority", "key", "issue", *words), authority_home.environ)["keys"][0])


def call_once(scenario: Scenario, folder: Path, product: str, root: str, port: int) -> None:
    """One machine calls the host, which refuses it: it counts one of 25."""
    machine_home = quickstart.machine(folder, "caller", quickstart.kms_facts(1))
    called("volact", ("client", "install", product, f"--root={root}"), machine_home.environ)
    scenario(machine_home, "/skms", f"127.0.0.1:{port}", program="slmgr")
    called("slmgr", ("/ato",), machine_home.environ, code=REFUSED)


def fleet(scenario: Scenario, home: children.Volact, product: str, root: str, port: int) -> None:
    """Machines enough for leases call twice."""
    words = ("--host", f"127.0.0.1:{port}", "--product", product, f"--root={root}", "--rounds", "2")
    scenario(home, "lab fleet", *words, "--connections", "1")


def story(folder: Path, home: children.Volact) -> Any:
    """What the story says under a policy that has it over soon; it runs beside the rest, in a fork of this process."""

    def here(self: children.Volact, *words: str, stdin: str = "", program: str = "volact") -> Any:
        return called(program, words, self.environ, stdin)

    children.Volact.__call__ = here  # type: ignore[method-assign]  # in this fork: its own commands cost no imports, either
    file = folder / "story.toml"
    file.write_text(STORY, "utf-8")
    words = ("lab", "story", "kms", "--policy", str(file), "--days", STORY_DAYS)
    return called("volact", words, home.environ)


def remember_serve(scenario: Scenario, log: Path, name: str) -> None:
    """Keep the shape of what a service said when it listened."""
    for line in log.read_text("utf-8").splitlines():
        if line.startswith('{"listening"'):
            scenario.shapes[name] = kind(json.loads(line))


def play() -> dict[str, Any]:
    """Run everything once; command -> shape of its answer."""
    scenario = Scenario()
    with laboratory() as (folder, _), ProcessPoolExecutor(1, FORK) as beside:
        played = beside.submit(story, folder, children.Volact(folder / "story"))
        port = children.free_port()
        home = children.Volact(folder / "publisher")
        home.home.mkdir()
        root, key = authority(scenario, folder, home, f"https://127.0.0.1:{port}")
        product = folder / "cad.volact-product"
        words = ("authority", "serve", "--listen", f"127.0.0.1:{port}", "--json")
        service = home.serve(*words, log=folder / "log", address=("127.0.0.1", port))
        try:
            one, other = (
                quickstart.machine(folder, name, shown)
                for name, shown in list(quickstart.MACHINES.items())[:2]
            )
            machine(scenario, one, product, root, key)
            scenario(other, "client install", str(product), "--root", root)
            act = by_file(scenario, folder, other, home, key)
            vamt(scenario, folder, one, other, root, key)
            enterprise = children.Volact(folder / "enterprise")
            kms_host(scenario, folder, enterprise, home, root)
            scenario(home, "completion", "bash")
            scenario.remember("volact lab story", played.result())
        finally:
            service.stop()
        remember_serve(scenario, folder / "log", "volact authority serve")
        scenario(home, "authority activation block", act)
        scenario(home, "authority key block", key.rsplit("-", 1)[1])
        scenario(home, "authority key list")
    return scenario.shapes


def help_of(*words: str) -> str:
    """What a command's --help says, at 100 columns, without colours."""
    os.environ.update(COLUMNS="100", NO_COLOR="1", TERM="dumb", PYTHON_COLORS="0")
    run = slmgr.main if words[0] == "slmgr" else cli.main
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = run([*words[1:], "--help"])
    if code:
        raise SystemExit(f"{' '.join(words)} --help: {code}")
    return "\n".join(line.rstrip() for line in said.getvalue().strip("\n").splitlines())


def commands_of(words: str, app: App) -> set[str]:
    """All commands of a role's app, those of its groups included."""
    found = set()
    for name in app:
        if not name.startswith("-"):
            found |= commands_of(f"{words} {name}", app[name]) or {f"{words} {name}"}
    return found


def main() -> int:
    """Print the page."""
    os.environ.pop("VOLACT_HOME", None)
    shapes = play()
    documented = {f"volact client {name}" for name in client_parser()._subparsers._group_actions[0].choices}  # type: ignore[union-attr]  # noqa: SLF001 - argparse has no other way
    documented |= commands_of("volact kmshost", host_app) | commands_of("volact lab", lab_app)
    documented |= commands_of("volact vamt", vamt_app)
    documented |= {f"slmgr /{name}" for name in slmgr.SWITCHES}
    documented |= {
        f"slmgr /{name}{ON_HOST}"
        for name, one in slmgr.SWITCHES.items()
        if one.host and (one.run or name == "ipk")  # a host's own switches are there without it
    }
    missing = documented - set(shapes)
    if missing:
        raise SystemExit(f"commands that no scenario runs: {', '.join(sorted(missing))}")
    print(HEAD)
    print(f"## slmgr\n\n```\n{help_of('slmgr')}\n```\n")
    for name, shape in sorted(shapes.items(), key=lambda one: (one[0].startswith("slmgr"), one[0])):
        words = name.split()
        print(f"## {name}\n")
        if words[0] == "volact":
            print(f"```\n{help_of(*words)}\n```\n")
        print(f"```\n{json.dumps(shape, indent=2)}\n```\n")
    print("## volact quickstart\n\n```\n" + help_of("volact", "quickstart") + "\n```\n")
    print("## Refusal codes\n\n| code | HTTP | what | what to do |\n| --- | --- | --- | --- |")
    for code, problem in sorted(PROBLEMS.items()):
        print(f"| `{code}` | {problem.status} | {problem.sentence} | {problem.next_step} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
