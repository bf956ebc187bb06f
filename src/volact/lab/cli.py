"""``volact lab``: a fleet of made-up machines against a laboratory's KMS host, and the stories of the rules, played."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from volact import commands
from volact.client import address
from volact.clock import clock_for
from volact.commands import WHOLE, Json
from volact.console import DONE, REFUSED, Console
from volact.lab import machines, story
from volact.lab.fleet import FOR_EVER, Effort, Fleet
from volact.lab.handclock import HandClock
from volact.lab.load import Drive
from volact.protocol import ids, policy, trust
from volact.protocol.problems import DocumentRefused, Refusal, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from volact.lab.machines import Product
    from volact.lab.narrating import Line
    from volact.protocol.policy import Policy

app = commands.role(
    "lab", "Machines by the thousand, and the stories of the rules, under laboratory publishers."
)

STORIES = ("kms", "mak", "proxy")
DAYS = 60
_MOST_MACHINES = 2_000_000
_MOST_CONNECTIONS = 10_000
_LONGEST_RUN = policy.DAY
_Whole = Annotated[int, WHOLE]


def main(arguments: list[str]) -> int:
    """Run a command and say its exit code."""
    return commands.main(app, arguments)


def _number(name: str, value: float, most: float, least: float = 1) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} must be {least} to {most}, not {value}.")


@app.command
def fleet(
    *,
    host: str,
    product: Annotated[list[Path], Parameter(consume_multiple=False)],
    root: Annotated[str, Parameter(allow_leading_hyphen=True)],
    machines_: Annotated[int, WHOLE, Parameter(name="--machines")] = 25,
    servers: _Whole = 0,
    connections: _Whole = 8,
    rounds: Annotated[int | None, WHOLE] = None,
    seconds: float | None = None,
    new_connections: bool = False,
    verify: bool = False,
    state: Path | None = None,
    json: Json = False,
) -> int:
    """Let made-up machines check in with a laboratory's KMS host, and tell how it answered.

    Parameters
    ----------
    host
        The KMS host: NAME, NAME:PORT or [IPv6]:PORT.
    product
        The signed product file, ID.volact-product; give it twice, with a server product, for --servers.
    root
        The publisher id that the file and the host must prove to be of.
    machines_
        How many machines there are; each has a key and facts of its own.
    servers
        How many of them ask for the server product.
    connections
        How many connections at once.
    rounds
        How often each machine asks; once unless --seconds is given.
    seconds
        How long they ask, again and again; the time of sending counts.
    new_connections
        Open a TLS connection for each check-in.
    verify
        Verify each lease to the root, between the rounds.
    state
        A file that keeps keys and leases (mode 0600), so that a later run renews them.
    """
    console = Console(json=json)
    _number("--machines", machines_, _MOST_MACHINES)
    _number("--servers", servers, machines_, least=0)
    _number("--connections", connections, _MOST_CONNECTIONS)
    effort = _effort(rounds, seconds)
    where = address.read(host)
    if not where.name:
        raise UsageError("--host names no host.", "Give NAME, NAME:PORT or [IPv6]:PORT.")
    client, server = _products(product, root, servers)
    made = _fleet(state, client, server, machines_, servers)
    drive = Drive(where, (), connections, new_connections)
    try:
        with _progress(console, made, effort) as progress:
            tally = made.check_in_all(
                drive, clock_for(os.environ, lab=True), effort, verify=verify, progress=progress
            )
    finally:
        if state is not None:
            _keep(made, state)
    figures: dict[str, Any] = {
        "host": str(where),
        "publisher": made.pub,
        "machines": len(made.members),
        "servers": servers,
        "connections": connections,
        "new_connections": new_connections,
        **tally.document(),
    }
    console.answer(figures, _prose(figures))
    return REFUSED if tally.invalid else DONE


def _effort(rounds: int | None, seconds: float | None) -> Effort:
    if rounds is not None:
        _number("--rounds", rounds, 1_000_000)
    if seconds is not None:
        _number("--seconds", seconds, _LONGEST_RUN, least=0.1)
    if rounds is None and seconds is None:
        return Effort()
    return Effort(rounds, FOR_EVER if seconds is None else seconds)


def _products(files: list[Path], root: str, servers: int) -> tuple[Product, Product | None]:
    """The product of most machines, and that of the servers.

    Raises:
        UsageError, BrokenData, DocumentRefused, Refused: if a file cannot be had, or is not what it must be.
    """
    if not ids.is_thumbprint(root):
        raise UsageError("--root is the publisher id: 43 characters.", "`volact authority init` prints it.")
    found = [_product(file, root) for file in files]
    by_edition = {one.edition: one for one in found}
    if len(by_edition) < len(found):
        raise UsageError("At most one client and one server product can be given.")
    server = by_edition.get("server")
    if servers and server is None:
        raise UsageError("--servers needs a server product.", "Give its file with another --product.")
    return by_edition.get("client", found[0]), server


def _product(file: Path, root: str) -> Product:
    data = commands.read(file, trust.MAX_BUNDLE)
    try:
        if trust.open_self_keyed(trust.read_bundle(data).get("root"), "root").document.kid != root:
            raise Refused(Refusal("root-mismatch", f"{file} is another publisher's."))
        return machines.read_product(data, root)
    except DocumentRefused as error:
        detail = f"{file} is no signed product file, ID.volact-product: {error.refusal.detail}"
        raise DocumentRefused(detail) from None


def _fleet(state: Path | None, client: Product, server: Product | None, number: int, servers: int) -> Fleet:
    made = _kept(state, {one.name: one for one in (client, server) if one}) if state is not None else None
    if made is None:
        return Fleet.make(number, client, server=server, servers=servers)
    made.grow(number, client, server=server, servers=servers)
    return made


def _kept(state: Path, products: dict[str, Product]) -> Fleet | None:
    """The fleet of an earlier run, or None if there was none; what could not be kept is said before the run."""
    try:
        return Fleet.load(state, products)
    except FileNotFoundError as error:
        if not state.parent.is_dir():
            raise commands.not_writable(state, error) from None
        return None
    except OSError as error:
        raise commands.not_readable(state, error) from None


def _keep(made: Fleet, state: Path) -> None:
    try:
        made.save(state)
    except OSError as error:
        raise commands.not_writable(state, error) from None


@contextmanager
def _progress(console: Console, made: Fleet, effort: Effort) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal."""
    if console.json or not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console as Terminal
    from rich.progress import Progress

    with Progress(console=Terminal(stderr=True), transient=True) as bar:
        total = len(made.members) * effort.rounds if effort.rounds else None
        task = bar.add_task(f"{len(made.members)} machines check in", total=total)
        yield lambda done, _of: bar.update(task, completed=done)


def _prose(figures: dict[str, Any]) -> str:
    """The figures for people."""
    refused = ", ".join(f"{number} {code}" for code, number in figures["refused"].items()) or "0"
    fresh = ", a new one each time" if figures["new_connections"] else ""
    invalid = f", invalid {figures['invalid']}" if figures["invalid"] else ""
    times = "  ".join(f"{name} {figures[name + '_ms']}" for name in ("p50", "p95", "p99", "max"))
    asked = f"{figures['machines']} machines, {figures['requests']} check-ins in {figures['seconds']} s"
    lines = [
        f"{asked} over {figures['connections']} connections{fresh}",
        f"granted  {figures['granted']}",
        f"refused  {refused}",
        f"failed   {figures['failed']}{invalid}",
        f"rate     {figures['per_second']} answers/s; generator at {figures['generator_cpu']} of a core",
        f"latency  {times} ms",
    ]
    if figures["verified"]:
        lines.append(f"verified {figures['verified']} leases, to the root")
    lines += [f"         {reason}" for reason in figures["reasons"]]
    if figures["count"] is not None:
        required = f" (required {figures['required']})" if figures["required"] is not None else ""
        lines.append(
            f"count    {figures['count']}{required}, as the host said last (it need not count further)"
        )
    return "\n".join(lines)


@app.command(name="story")
def story_(
    name: str,
    *,
    days: Annotated[int | None, WHOLE] = None,
    policy_: Annotated[Path | None, Parameter(name="--policy")] = None,
    seed: Annotated[int | None, WHOLE] = None,
    json: Json = False,
) -> None:
    """Play a story of the rules with real programs and a movable clock, and print its timeline.

    Parameters
    ----------
    name
        Which one: kms (rule K8), mak (M1 to M6) or proxy (P1 to P5).
    days
        How many days it covers; kms alone: 60 by default.
    policy_
        A product.toml whose policy is used instead of the defaults.
    seed
        Another number spreads the machines' tries differently; kms alone.
    """
    if name not in STORIES:
        raise UsageError(f"There is no story {name[:40]!r}.", f"Stories: {', '.join(STORIES)}.")
    if name != "kms" and (days, seed) != (None, None):
        raise UsageError(f"The story {name} has its own days.", "Leave out --days and --seed.")
    console = Console(json=json)
    numbers, edition = _policy(policy_)
    planned = story.plan(numbers, edition, DAYS if days is None else days) if name == "kms" else None
    with tempfile.TemporaryDirectory(prefix="volact-lab-") as folder:
        clock = HandClock(Path(folder) / "clock", int(time.time()))
        if planned is None:
            document = _by_commands(name, Path(folder), clock, numbers, edition, console)
        else:
            document = _kms(
                planned, Path(folder), clock, numbers, edition, 1 if seed is None else seed, console
            )
    if json:
        console.answer(document, "")


def _kms(
    planned: story.Plan,
    folder: Path,
    clock: HandClock,
    numbers: Policy,
    edition: str,
    seed: int,
    console: Console,
) -> dict[str, Any]:
    from volact.lab.site import Site

    console.remark("An authority and a KMS host are set up by their own commands ...")
    with Site(folder, clock, numbers, edition) as made:
        played = story.Kms(made, clock, planned, teller(console), seed)
        played.play()
        return played.document()


def _by_commands(
    name: str, folder: Path, clock: HandClock, numbers: Policy, edition: str, console: Console
) -> dict[str, Any]:
    """A story that needs nothing but an authority and commands."""
    from volact.lab.makstory import Mak
    from volact.lab.proxystory import Proxy
    from volact.lab.publisher import Publisher
    from volact.lab.site import product_file

    console.remark("An authority is set up by its own commands ...")
    publisher = Publisher(folder, clock)
    with ExitStack() as running:
        publisher.start(product_file(numbers, edition), running)
        played: Mak | Proxy = (Mak if name == "mak" else Proxy)(
            folder, clock, publisher, numbers, teller(console)
        )
        played.play()
        return played.document()


def teller(console: Console) -> Callable[[Line], None]:
    """Says each line of a story as it comes: on standard output, or beside it where that is one JSON value."""
    if console.json:
        return lambda line: console.remark(line.prose())
    return lambda line: console.answer(None, line.prose())


def _policy(file: Path | None) -> tuple[Policy, str]:
    """The policy and edition of a publisher's product file; else the defaults of a client product."""
    if file is None:
        return policy.of_edition("client"), "client"
    from volact.authority import productfile

    claims = productfile.read_bytes(commands.read(file, trust.MAX_BUNDLE))
    return policy.read(claims["pol"], claims["edition"]), claims["edition"]
