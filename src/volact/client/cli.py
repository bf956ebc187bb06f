"""``volact client``: install, keys, activate, return, status and its list, events, run, generalize (DESIGN section 5)."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from volact import config, console
from volact.calls import MAX_ANSWER, Caller
from volact.client import address, events, folder, lifecycle, reporting, running
from volact.client.client import Client
from volact.client.folder import CLIENT as FOLDER
from volact.client.folder import read_file
from volact.client.installation import Surroundings
from volact.client.resolving import names_for
from volact.client.store import Store
from volact.clock import clock_for
from volact.console import Console
from volact.facts import described, facts_for
from volact.files import write_durably
from volact.protocol import jws, policy
from volact.protocol.problems import BrokenData, Refusal, Refused, UsageError, VolactError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from volact.client.client import Activated


class Parser(argparse.ArgumentParser):
    """A parser that raises what `console.run` translates; it knows whole options only, as `Console` does."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 - argparse's own
        """Take what argparse takes."""
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Refuse a wrong call."""
        raise UsageError(f"{message[:1].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def surroundings(
    environ: Mapping[str, str], tell: Callable[[events.Event], None] | None = None
) -> Surroundings:
    """The real ones; `tell` is told each event as it is logged."""
    return Surroundings(
        clock=lambda lab: clock_for(environ, lab=lab),
        facts=lambda lab: facts_for(environ, lab=lab),
        call=Caller,
        chance=random.random,
        tell=tell or _silent,
        names=lambda lab: names_for(environ, lab=lab),
        label=_label(environ),
    )


def _label(environ: Mapping[str, str]) -> str:
    """Under which label hosts are looked for, as ``client.toml`` in the client's folder or the environment says.

    Raises:
        SettingInvalid: naming the place.
    """
    settings: config.ClientSettings = config.load(FOLDER, config.home(environ) / FOLDER, environ)
    if not address.is_domain(f"{settings.dns_label}.x"):
        raise config.SettingInvalid(
            f"dns_label: {settings.dns_label[:80]!r} is no label such as _volact._tcp"
        )
    return settings.dns_label


def _silent(_event: events.Event) -> None:
    """A command says itself what came of it."""


def parser() -> Parser:
    """The command line."""
    shared = Parser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print exactly one JSON value on standard output")
    whole = Parser(prog="volact client", description="The licensed machine.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, help_: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help_, description=help_, parents=[shared])

    install = add("install", "install a product's activation file")
    install.add_argument("file", metavar="FILE", help="the signed product file, ID.volact-product")
    install.add_argument(
        "--root", required=True, metavar="ROOT", help="publisher id, or a root document's file"
    )
    key = add("install-key", "install a MAK or retail key; nothing is sent")
    key.add_argument("key", metavar="KEY", help="the key, - for standard input, or @FILE")
    _add_product(key)
    activate = add("activate", "activate a product online: with its key, or by a KMS host")
    _add_product(activate)
    back = add("return", "give an activation back: online at once, or by a file for the publisher")
    _add_product(back)
    back.add_argument(
        "--file",
        metavar="FILE",
        help="stop first, then write the return to FILE; it counts 30 days after it came",
    )
    add("status", "show every product, its state and why")
    brought = add("status-list", "take a publisher's status list that a medium or VAMT brought")
    brought.add_argument(
        "file", metavar="FILE", help="the list's file, e.g. NAME.cil.status; - for standard input"
    )
    log = add("events", "show the event log: 12288 a request was sent, 12289 it was answered")
    log.add_argument("--since", metavar="TIME", help="RFC 3339 time, or how long ago: 2h, 7d")
    log.add_argument("--event", metavar="NUMBER", help="only events of this number: 12288 or 12289")
    log.add_argument("--result", metavar="CODE", help="only with this result: ok, or the code of a refusal")
    log.add_argument("--cmid", metavar="CMID", help="only under this identity of the machine")
    log.add_argument("--product", metavar="ID", help="only of this product")
    log.add_argument("--limit", metavar="N", help="only the newest so many")
    run = add("run", "do what is due, until stopped")
    run.add_argument("--once", action="store_true", help="do what a first start does, then end")
    add("generalize", "make this machine an image: identity, grants and state go, products and keys stay")
    return whole


def _add_product(command: argparse.ArgumentParser) -> None:
    command.add_argument("--product", metavar="ID", help="product id; needed when several are installed")


def main(arguments: list[str] | None = None) -> int:
    """Run ``volact client ...`` and say its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    out = Console(json="--json" in words, words=words, known=lambda: _COMMANDS)
    try:
        return console.run(out, lambda: _run(out, words))
    except SystemExit as stop:  # --help has been printed
        return int(stop.code or 0)


def _run(out: Console, words: Sequence[str]) -> int | None:
    given = parser().parse_args(_with_values(words))
    return _COMMANDS[given.command](out, given)


def _with_values(words: Sequence[str]) -> list[str]:
    """The words with ``--root`` and its value as one: one publisher id in 64 begins with a hyphen."""
    found: list[str] = []
    for word in words:
        if found and found[-1] == "--root":
            found[-1] = f"--root={word}"
        else:
            found.append(word)
    return found


def client(tell: Callable[[events.Event], None] | None = None) -> Client:
    """This machine's client; `tell` is told each event as it is logged."""
    *system, own = reading_stores()
    return Client(own, surroundings(os.environ, tell), system[0] if system else None)


def reading_stores() -> list[Store]:
    """The stores that `check()` reads."""
    return [Store(home) for home in config.reading_homes(os.environ)]


def rows() -> list[reporting.Row]:
    """What is installed on this machine."""
    return reporting.rows(reading_stores(), surroundings(os.environ))


def _install(out: Console, given: argparse.Namespace) -> None:
    done = client().install(read_file(given.file), given.root)
    what = (
        "is installed already, in this or a newer version"
        if done.kept
        else f"version {done.version} is installed"
    )
    out.answer(done._asdict(), f"{done.product} {what}.")


def _install_key(out: Console, given: argparse.Namespace) -> None:
    machine = client()
    pub, product = machine.select(given.product)
    label = machine.install_key(console.secret_argument(given.key), product)
    members = {"publisher": pub, "product": product, "channel": label.kind, "partial_key": label.label}
    out.answer(members, f"The key ...-{label.label} is installed for {product}.")


def activated(out: Console, product: str | None) -> Activated:
    """Activate a product.

    Raises:
        Refused: ``machine-blocked`` or ``activation-returned``, if the publisher's list takes it away; ``clock-ahead``
            if what was granted and stored is over by this machine's clock.
    """
    done = client().activate(product)
    if done.list_failure is not None:
        out.remark(f"The status list was not fetched: {done.list_failure}")
    if done.standing.reason.startswith("blocked"):
        raise Refused(Refusal("machine-blocked", done.standing.warn))
    if done.standing.reason == "activation-returned":
        raise Refused(Refusal("activation-returned"))
    if done.ahead:
        _say_ahead(out, done)
    return done


def _say_ahead(out: Console, done: Activated) -> None:
    """Say that the clock is ahead.

    Raises:
        Refused: ``clock-ahead``, if that costs the state.
    """
    said = f"This machine's clock is {reporting.span(done.ahead)} ahead of the time that was signed"
    standing = done.standing
    if standing.licensed:
        out.remark(f"warning: {said}: set it.")
        return
    state = lifecycle.STATE_NAMES[standing.state]
    extra = (("product", done.product), ("state", standing.state), ("state_name", state))
    raise Refused(Refusal("clock-ahead", f"{said}: {done.product} is in {state}.", extra))


def _activate(out: Console, given: argparse.Namespace) -> None:
    done = activated(out, given.product)
    (row,) = [row for row in rows() if (row.members["publisher"], row.members["product"]) == done[:2]]
    out.answer(row.members, f"{done.product}: {row.members['state_name']}. Expires: {reporting.expiry(row)}")


def _give_back(out: Console, given: argparse.Namespace) -> None:
    machine = client()
    if given.file is None:
        done = machine.give_back(given.product)
        where = "The publisher has taken it back."
    else:
        _check_writable(given.file)  # before the machine stops
        done = machine.promise(given.product)
        try:
            write_durably(Path(given.file), jws.write_json(done.bundle))
        except OSError as error:
            raise BrokenData(f"{given.file}: {error.strerror}. Repeat the command.", "not-writable") from None
        where = f"The return is in {given.file}: `volact authority answer` takes it."
    members = {
        "publisher": done.publisher,
        "product": done.product,
        "activation": done.activation,
        "state": done.standing.state,
        "state_name": lifecycle.STATE_NAMES[done.standing.state],
        "reason": done.standing.reason,
        "file": given.file,
        "request": None if given.file is None else done.bundle,
        "receipt": done.bundle if given.file is None else None,
    }
    out.answer(members, f"{done.product}: given back; {members['state_name']}. {where}")


def _check_writable(path: str) -> None:
    """Refuse a file that could not be written.

    Raises:
        BrokenData: ``not-writable``.
    """
    try:
        if os.path.isdir(path or "."):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=os.path.dirname(path) or "."):
            pass
    except OSError as error:
        raise BrokenData(f"{path}: {error.strerror}. Nothing was changed.", "not-writable") from None


def standard_input(most: int) -> bytes:
    """All of standard input.

    Raises:
        BrokenData: if it is no text, or longer than `most` bytes.
    """
    try:
        given = sys.stdin.read(most + 1).encode("utf-8", "replace")
    except UnicodeDecodeError:
        raise BrokenData("Standard input is not text.", "not-readable") from None
    if len(given) > most:
        raise BrokenData(f"Standard input is larger than {most} bytes.")
    return given


def _take_list(out: Console, given: argparse.Namespace) -> None:
    data = standard_input(MAX_ANSWER) if given.file == "-" else read_file(given.file, MAX_ANSWER)
    done = client().take_list(data)
    products = [
        {
            "product": name,
            "state": one.state,
            "state_name": lifecycle.STATE_NAMES[one.state],
            "reason": one.reason,
        }
        for name, one in sorted(done.standings.items())
    ]
    lines = [f"The publisher's status list, version {done.version}, was taken."]
    if not done.taken:
        lines = [f"A later status list than version {done.version} was taken before; nothing has changed."]
    lines += [f"  {one['product']}: {one['state_name']}, {one['reason']}" for one in products]
    members = {
        "publisher": done.publisher,
        "version": done.version,
        "taken": done.taken,
        "products": products,
    }
    out.answer(members, "\n".join(lines))


def _status(out: Console, _given: argparse.Namespace) -> None:
    found = rows()
    prose = "\n\n".join("\n".join([*reporting.lines(row), *reporting.details(row)]) for row in found)
    value = {"products": [row.members for row in found], "machine": _machine()}
    out.answer(value, prose or "No product is installed.")


def _machine() -> dict[str, Any] | None:
    """What this machine says of itself; that is a laboratory's to make up only where nothing else is installed.

    None if the file with a laboratory's facts is broken; each of its products says so.
    """
    labs = set()
    for store in reading_stores():
        for pub in store.publishers():
            with contextlib.suppress(VolactError):
                labs.add(folder.roots(store.home, pub).lab)
    try:
        return described(facts_for(os.environ, lab=labs == {True}))
    except BrokenData:
        return None


def _events(out: Console, given: argparse.Namespace) -> None:
    now = clock_for(os.environ, lab=False).now()
    since = console.since_argument(given.since, now) if given.since else 0
    limit = _whole("--limit", given.limit)
    wanted = {
        "event": _whole("--event", given.event),
        "result": given.result,
        "cmid": given.cmid,
        "product": given.product,
    }
    found = events.read(config.reading_homes(os.environ), since, limit, **wanted)
    for event in found:
        event["time"] = reporting.moment(event["time"])
        event["client_time"] = reporting.moment(event["client_time"])
    prose = "\n".join(
        f"{event['time']}  {event['event']}  {event['product']}  {event['host']}  {event['result']}".rstrip()
        for event in found
    )
    out.answer(found, prose or "No events.")


def _whole(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    number = config.whole(text)
    if number is None:
        raise UsageError(f"{name} {text[:40]!r} is no whole number.")
    return number


def _service(out: Console, given: argparse.Namespace) -> int | None:
    machine = client(lambda event: out.remark(_event_line(event)))
    if not given.once:
        running.run(machine, lambda where, error: out.remark(f"{where}: {_code_of(error)}: {error}"))
        if out.json:
            _status(out, given)
        return None
    failures: list[Exception] = []
    running.tick(machine, lambda _where, error: failures.append(error), at_start=True)
    if failures:
        raise failures[0]
    _status(out, given)
    return None


def _event_line(event: events.Event) -> str:
    """An event as a line of the service's log (K8)."""
    numbers = (
        ("required", event.required),
        ("count", event.current),
        ("state", event.state),
        ("minutes", event.minutes),
        ("renewal", event.renewal // policy.MINUTE),
        ("retry", event.retry // policy.MINUTE),
    )
    said = " ".join(f"{name}={value}" for name, value in numbers if value is not None)
    words = (event.event, event.product, event.host, event.result, said)
    return " ".join(str(word) for word in words if word != "")


def _code_of(error: Exception) -> str:
    return error.refusal.code if isinstance(error, VolactError) else "not-writable"


def _generalize(out: Console, _given: argparse.Namespace) -> None:
    found: list[dict[str, Any]] = [
        {"publisher": pub, "product": product, "key": has_key}
        for pub, product, has_key in client().generalize()
    ]
    prose = "\n".join(
        f"{one['product']}: " + ("its key is in the image." if one["key"] else "no key is in the image.")
        for one in found
    )
    out.answer({"products": found}, prose or "No product is installed.")


_COMMANDS: dict[str, Callable[[Console, argparse.Namespace], int | None]] = {
    "install": _install,
    "install-key": _install_key,
    "activate": _activate,
    "return": _give_back,
    "status": _status,
    "status-list": _take_list,
    "events": _events,
    "run": _service,
    "generalize": _generalize,
}
