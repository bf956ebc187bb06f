"""``slmgr``: the classic switches, with ``/`` or ``-``, on this machine or on one of VAMT's (rule S).

Each switch calls one method of the client or of the KMS host and prints in the words of rules E and S; ``--json``
prints the same as one JSON value. Of a key only the last group is ever shown.

Where a machine has both roles, a host's switches, `/dli` and `/dlv` address the host (`/dlv` prints both), `/ipk`
follows the key's kind, all others the client; ``--role client|kmshost`` overrides (DESIGN section 5). Where it has one
of them alone, that one answers, also that a key belongs elsewhere.

``slmgr MACHINE /SWITCH`` is told to the slmgr of a machine that VAMT knows, in the way of collection (`vamt.remote`).
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from volact import config, console
from volact.client import cli, switches
from volact.client.client import Question
from volact.client.folder import LARGEST, read_file
from volact.console import DONE, USAGE, Console
from volact.files import write_durably
from volact.protocol import jws, keys, qr
from volact.protocol.problems import BrokenData, Refusal, Refused, Unreachable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_QR = "--qr"
_COLUMNS = 80
"""A terminal's width at which QR codes of version 13, which are 77 modules wide with their border, can be read."""


CLIENT, KMSHOST = "client", "kmshost"
_ROLES = (CLIENT, KMSHOST)
_BEFORE = 2
"""Words that may stand before the switch: MACHINE and USER."""


class Switch(NamedTuple):
    """A switch.

    Attributes:
        words: what it takes, for people.
        least: how few words that may be, PRODUCT not counted.
        most: how many.
        run: what it does on the client; None for a host's own switch, and for `/ipk`, which reads its key first.
        help: one line.
        host: the name in `kmshost.switches` of what it does on a KMS host; empty if it is none of a host's.
        host_first: whether it addresses the host where a machine has both.
    """

    words: str
    least: int
    most: int
    run: Callable[[Console, list[str], str | None], None] | None
    help: str
    host: str = ""
    host_first: bool = False


def usage() -> str:
    """What ``slmgr`` says without a switch."""
    lines = ["usage: slmgr [MACHINE [USER]] SWITCH [WORDS] [PRODUCT] [--role client|kmshost] [--json]", ""]
    lines += [f"  /{name + ' ' + switch.words:<18} {switch.help}" for name, switch in SWITCHES.items()]
    hosts = [f"/{name}" for name, switch in SWITCHES.items() if switch.host_first]
    lines += [
        "",
        "PRODUCT is needed when several products are installed. - may stand for /.",
        "Where a machine has a client and a KMS host, /ipk follows the key's kind;",
        f"{', '.join(hosts)} address the host (/dlv prints both),",
        "all others the client; --role says which, and a host's /ato and /xpr need it then.",
        "A client alone, or a host alone, is addressed without it.",
        "MACHINE is one that VAMT knows (`volact vamt machine list`). It is told over SSH by its",
        "group's login, or as USER by that login's key. FILE is here; a key goes on standard input.",
    ]
    return "\n".join([*lines, "Exit codes: 0 done, 1 refused, 2 usage, 3 could not reach, 4 broken data."])


def main(arguments: list[str] | None = None) -> int:
    """Run ``slmgr ...`` and say its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    out = Console(json="--json" in words, words=words, known=lambda: {*SWITCHES, *_ROLES})
    words = [word for word in words if word != "--json"]
    if not words or words[0] in ("/?", "-?", "-h", "--help", "/help"):
        out.answer({"switches": [f"/{name}" for name in SWITCHES]}, usage())
        return DONE if words else USAGE
    return console.run(out, lambda: _run(out, words))


def _run(out: Console, words: list[str]) -> int | None:
    words, role = _split_role(words)
    if not words:
        raise UsageError("There is no switch.", "See `slmgr /?`.")
    at = _switch_at(words)
    name, switch, given = _read(words[at:])
    if at:
        return _elsewhere(out, words[:at], name, given, role)
    _run_here(out, name, switch, given, role)
    return None


def _switch_at(words: list[str]) -> int:
    """Where the switch stands: first, or after MACHINE or MACHINE USER."""
    for at, word in enumerate(words[: _BEFORE + 1]):
        if word[:1] in ("/", "-"):
            return at if len(word) > 1 and (not at or word[:2] != "--") else 0
    return 0


def _read(words: list[str]) -> tuple[str, Switch, list[str]]:
    """The switch's name, the switch, and its words.

    Raises:
        UsageError: if there is no such switch, or it takes fewer or more words.
    """
    first, given = words[0], words[1:]
    name = first[1:].lower() if first[:1] in ("/", "-") else ""
    switch = SWITCHES.get(name)
    if switch is None:
        known = {f"/{one}": one for one in SWITCHES}
        nearest = config.nearest(f"/{name or first.lower()}", known)
        next_step = (
            "See `slmgr /?`." if name else "See `slmgr /?`; on another machine: `slmgr MACHINE /SWITCH`."
        )
        raise UsageError(f"There is no switch {first[:40]!r}{nearest}.", next_step)
    if not switch.least <= len(given) <= switch.most + 1:
        takes = f"{switch.words} [PRODUCT]" if switch.run or name == "ipk" else switch.words
        raise UsageError(f"/{name} takes: {takes.strip() or 'nothing'}.", "See `slmgr /?`.")
    return name, switch, given


def _run_here(out: Console, name: str, switch: Switch, given: list[str], role: str | None) -> None:
    if name == "ipk":
        _install_key(out, given, role)
        return
    addressed = _role_of(name, switch, role)
    _check_role_is_here(name, addressed)
    if addressed == KMSHOST:
        if len(given) > switch.most:
            raise UsageError(f"/{name} on a KMS host takes: {switch.words or 'nothing'}.", "See `slmgr /?`.")
        if name == "dlv" and role is None:
            _both(out)
            return
        run = getattr(_host_switches(), switch.host)
        run(out, given)
        return
    assert switch.run is not None  # noqa: S101 - `_role_of` sends a host's own switch to the host
    given, product = _split_product(given, switch)
    switch.run(out, given, product)


def _elsewhere(out: Console, before: list[str], name: str, given: list[str], role: str | None) -> int:
    """Run a switch on the machine of VAMT's that is named first, by the account that may be named second.

    Files are this machine's, and what is secret is read here and goes there on standard input (M8).
    """
    stdin = b""
    if name == "ipk":
        text = console.secret_argument(given[0])
        key = keys.read(text)
        if isinstance(key, Refusal):
            raise Refused(key)
        stdin = text.encode() + b"\n"
    elif name == "atp":
        stdin = _confirmation(given[0])
    if stdin:
        given = ["-", *given[1:]]
    of_role = ["--role", role] if role else []
    with _module("vamt.remotecommands", "vamt", "Another machine is asked by VAMT, which").distant(
        before[0], "".join(before[1:])
    ) as there:
        if name == "dti":
            return _question_of(out, there, given, of_role)
        said = there.tell(name, [*given, *of_role, *(["--json"] if out.json else [])], stdin)
    return _pass_on(out, said)


def _question_of(out: Console, there: Any, given: list[str], of_role: list[str]) -> int:  # noqa: ANN401 - a `Distant`
    """`/dti` of another machine: its request goes to a file here, or is shown here as QR codes."""
    files = [word for word in given if word != _QR]
    product = [files.pop()] if len(files) > 1 or (files and there.has(files[-1])) else []
    _check_question(files)
    said = there.tell("dti", [*product, *of_role, "--json"])
    if said.exit:
        return _pass_on(out, said)
    members = said.members()
    publisher, name, iid = (str(members.get(one)) for one in ("publisher", "product", "iid"))
    bundle = members.get("request")
    if not isinstance(bundle, dict):
        raise Unreachable(Refusal("answer-nonsense", "It answered with no request."))
    _show_question(out, Question(publisher, name, iid, bundle), files, wanted=_QR in given)
    return DONE


def _pass_on(out: Console, said: Any) -> int:  # noqa: ANN401 - a `Said`
    """Print what another machine's slmgr said, and say its exit code."""
    members = said.members() if out.json else None
    if said.err:
        out.remark(said.err)
    out.answer(members, said.out)
    return int(said.exit)


def _split_role(words: list[str]) -> tuple[list[str], str | None]:
    """The words without ``--role ROLE``, and the role."""
    for at, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--role":
            rest = words[at + 1 :] if equals else words[at + 2 :]
            role = value if equals else (words[at + 1 : at + 2] or [""])[0]
            if role not in _ROLES:
                raise UsageError(f"--role is {' or '.join(_ROLES)}.", "See `slmgr /?`.")
            return words[:at] + rest, role
    return words, None


def _role_of(name: str, switch: Switch, asked: str | None) -> str:
    """Which role of this machine a switch addresses."""
    possible = [role for role, there in ((CLIENT, switch.run), (KMSHOST, switch.host)) if there]
    if asked is not None:
        if asked not in possible:
            raise UsageError(f"/{name} is no switch of the role {asked}.", "See `slmgr /?`.")
        return asked
    if len(possible) == 1:
        return possible[0]
    if not _has_host():
        return CLIENT
    return KMSHOST if switch.host_first or not cli.rows() else CLIENT


def _check_role_is_here(name: str, addressed: str) -> None:
    """Refuse a switch of a role that is not set up here: that comes before what else it may lack."""
    if addressed == KMSHOST and not _has_host():
        detail = (
            f"/{name} addresses a KMS host, and this machine has none: `volact kmshost init --root ROOT`."
        )
        raise Refused(Refusal("not-set-up", detail))
    if addressed == CLIENT and _has_host() and not cli.rows():
        detail = f"/{name} addresses a product, and this machine has a KMS host alone."
        raise Refused(Refusal("product-not-installed", detail))


def _both(out: Console) -> None:
    """`/dlv` on a machine with a KMS host: the host, then the products that are installed beside it."""
    host = _host_switches()
    found = host.status(detailed=True)
    products = [switches.all_of(row) for row in cli.rows()]
    text = [
        "\n".join([*host.lines(found), *host.details(found)]),
        *("\n".join(lines) for _, lines in products),
    ]
    out.answer({**found, "client": [members for members, _ in products]}, "\n\n".join(text))


def _has_host() -> bool:
    """Whether this machine has a KMS host; a machine without the server's parts has none."""
    return (config.home() / KMSHOST).is_dir()


def _host_switches() -> Any:  # noqa: ANN401 - as `_module`
    return _module("kmshost.switches", "server", "A KMS host", "Or give --role client.")


def _module(name: str, extra: str, who: str, next_step: str = "See `slmgr /?`.") -> Any:  # noqa: ANN401 - a module, which needs what a client may not have
    try:
        return importlib.import_module(f"volact.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("volact"):
            raise
        raise UsageError(f"{who} needs {error.name}: pip install 'volact[{extra}]'", next_step) from None


def _split_product(given: list[str], switch: Switch) -> tuple[list[str], str | None]:
    """The switch's own words, and PRODUCT.

    That is the last word if there is one more than the switch takes, or if it is a product that is installed.
    """
    if len(given) > switch.most or (len(given) > switch.least and _is_installed(given[-1])):
        return given[:-1], given[-1]
    return given, None


def _is_installed(word: str) -> bool:
    return any(row.members["product"] == word for row in cli.rows())


def _install_key(out: Console, words: list[str], role: str | None) -> None:
    """`/ipk KEY [PRODUCT]`, on the role that was asked for, or that the key is for."""
    text, product = console.secret_argument(words[0]), words[1] if len(words) > 1 else None
    if (role or _role_for(text)) == KMSHOST:
        _host_switches().install_key(out, text, product)
    else:
        _install_client_key(out, text, product)


def _install_client_key(out: Console, text: str, product: str | None) -> None:
    client = cli.client()
    key = keys.read(text)
    if isinstance(key, Refusal):
        raise Refused(key)
    if key.kind == "kms-host":
        detail = "This is a KMS host key; it belongs on a KMS host: `volact kmshost install-key`."
        raise Refused(Refusal("key-wrong-kind", detail))
    pub, name = client.select(product)
    label = client.install_key(text, name)
    members = {"publisher": pub, "product": name, "channel": label.kind, "partial_key": label.label}
    out.answer(members, f"Installed product key ...-{label.label} successfully.")


def _role_for(text: str) -> str:
    """Which role a key is for; the one that is here alone also gets what is no key of its own, and says so."""
    if not _has_host():
        return CLIENT
    key = keys.read(text)
    is_hosts = not isinstance(key, Refusal) and key.kind == "kms-host"
    return KMSHOST if is_hosts or not cli.rows() else CLIENT


def _question(out: Console, words: list[str], product: str | None) -> None:
    files = [word for word in words if word != _QR]
    if len(files) > 1 and product is None:
        files, product = files[:-1], files[-1]
    _check_question(files)
    _show_question(out, cli.client().question(product), files, wanted=_QR in words)


def _check_question(files: list[str]) -> None:
    if len(files) > 1 or any(file.startswith("--") for file in files):
        raise UsageError(f"/dti takes: {SWITCHES['dti'].words} [PRODUCT].", "See `slmgr /?`.")


def _show_question(out: Console, question: Question, files: list[str], *, wanted: bool) -> None:
    request = jws.write_json(question.bundle)
    texts = qr.split(request)
    drawn = [] if out.json else _drawn(texts, wanted=wanted, instead=not files)
    if files:
        try:
            write_durably(Path(files[0]), request)
        except OSError as error:
            raise BrokenData(f"{files[0]}: {error.strerror}.", "not-writable") from None
    where = f"The request is in {files[0]}." if files else "`slmgr /dti FILE` writes the request to a file"
    if not (files or drawn):
        where += f", `slmgr /dti {_QR}` shows it as QR codes, {_COLUMNS} columns wide"
    members = {"publisher": question.publisher, "product": question.product, "iid": question.iid}
    prose = "\n".join([f"Installation ID: {question.iid}", where.removesuffix(".") + ".", *drawn])
    out.answer({**members, "request": question.bundle, "qr": texts}, prose)


def _drawn(texts: list[str], *, wanted: bool, instead: bool) -> list[str]:
    """The QR codes' lines: if they are wanted, or on a terminal that is wide enough, `instead` of a file.

    Raises:
        UsageError: if they are wanted and cannot be shown.
    """
    if not wanted and not (
        instead and sys.stdout.isatty() and shutil.get_terminal_size().columns >= _COLUMNS
    ):
        return []
    try:
        import segno

        "█".encode(sys.stdout.encoding or "ascii")
    except ModuleNotFoundError:
        problem = UsageError("QR codes need segno: pip install segno", "Or write a file: `slmgr /dti FILE`.")
    except UnicodeEncodeError:
        problem = UsageError("This terminal cannot show block characters.", "Set its encoding to UTF-8.")
    else:
        begin, end = ("\x1b[30;107m", "\x1b[0m") if sys.stdout.isatty() else ("", "")  # black on white
        lines: list[str] = []
        for number, text in enumerate(texts, start=1):
            code = segno.make(text, error="l", boost_error=False, micro=False)
            rows = [[bool(one) for one in row] for row in code.matrix_iter(border=4)]
            lines += ["", f"QR code {number} of {len(texts)}:"]
            lines += [f"{begin}{line}{end}" for line in console.half_blocks(rows)]
        return lines
    if wanted:
        raise problem
    return []


def _apply(out: Console, words: list[str], _product: str | None) -> None:
    done = cli.client().apply(_confirmation(words[0]))
    row = switches.selected(done.product)
    out.answer(row.members, f"Confirmation for {done.product} applied: {row.members['state_name']}.")


def _confirmation(word: str) -> bytes:
    """A bundle, or the texts of its QR codes: pasted, from standard input (``-``), or from a file."""
    if word.lstrip().startswith("{") or qr.is_split(word):
        given = word.encode("utf-8", "replace")
    elif word == "-":
        given = cli.standard_input(LARGEST)
    elif not os.path.exists(word):  # noqa: PTH110 - a Path raises for a name that is too long
        raise BrokenData(f"{word[:200]} is no file and no confirmation.", "not-readable")
    else:
        given = read_file(word)
    text = given.decode("utf-8-sig", "replace")
    joined = qr.join(text) if qr.is_split(text) else given
    if isinstance(joined, Refusal):
        raise Refused(joined)
    return joined


SWITCHES = {
    "ipk": Switch("KEY", 1, 1, None, "install a product key (- for standard input, @FILE)", "install_key"),
    "upk": Switch("", 0, 0, switches.remove_key, "remove the product key"),
    "ato": Switch("", 0, 0, switches.activate, "activate", "activate"),
    "dli": Switch(
        "",
        0,
        0,
        switches.information,
        "show the licence, or the host's count",
        "information",
        host_first=True,
    ),
    "dlv": Switch(
        "", 0, 0, switches.all_information, "show it in detail", "all_information", host_first=True
    ),
    "xpr": Switch("", 0, 0, switches.expiry, "show when the present state ends", "expiry"),
    "dti": Switch(
        f"[FILE] [{_QR}]", 0, 2, _question, "show the installation id; the request to FILE, or as QR codes"
    ),
    "atp": Switch(
        "TEXT|FILE", 1, 1, _apply, "apply a confirmation, or the texts of its QR codes (- for input)"
    ),
    "skms": Switch(
        "NAME[:PORT]", 1, 1, switches.set_host, "set the KMS host: NAME[:PORT], [IPv6]:PORT or :PORT"
    ),
    "skms-domain": Switch(
        "DOMAIN", 1, 1, switches.set_domain, "set the one domain in which KMS hosts are looked for"
    ),
    "ckms": Switch(
        "", 0, 0, switches.clear_host, "forget host, port and domain that were set: hosts are found by DNS"
    ),
    "skhc": Switch(
        "", 0, 0, switches.cache_host, "ask the KMS host that answered last first; that is the default"
    ),
    "ckhc": Switch("", 0, 0, switches.do_not_cache_host, "begin every try with a query of DNS"),
    "sprt": Switch("PORT", 1, 1, None, "set the port of the KMS host here", "set_port", host_first=True),
    "sdns": Switch("", 0, 0, None, "publish the KMS host here in DNS", "publish", host_first=True),
    "cdns": Switch(
        "", 0, 0, None, "do not publish it, and withdraw what is published", "do_not_publish", host_first=True
    ),
    "spri": Switch(
        "", 0, 0, None, "run the KMS host here at normal priority", "normal_priority", host_first=True
    ),
    "cpri": Switch("", 0, 0, None, "run it at low priority", "low_priority", host_first=True),
    "sai": Switch(
        "MINUTES",
        1,
        1,
        switches.set_retry,
        "set the retry interval; a client's counts until a host tells its own",
        "set_retry",
        host_first=True,
    ),
    "sri": Switch(
        "MINUTES",
        1,
        1,
        switches.set_renewal,
        "set the renewal interval; likewise",
        "set_renewal",
        host_first=True,
    ),
    "rearm": Switch("", 0, 0, switches.rearm, "reset grace and identity"),
}
"""What `slmgr` knows."""


if __name__ == "__main__":
    sys.exit(main())
