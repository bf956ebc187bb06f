"""What the servers' commands share: a role's app and how it is run, answers as tables, times, files.

An error may repeat what was typed; `Console` sees to it that no key is shown (M8).
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, CycloptsError, Parameter

from volact.console import DONE, USAGE, Console, run, table
from volact.files import PUBLIC, write_durably
from volact.protocol.problems import BrokenData, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cyclopts import Token

Json = Annotated[bool, Parameter(name="--json", help="Answer with one JSON value.")]

# A flag has no opposite, and a list no word for "empty"; the help says a default where one matters.
PLAIN = Parameter(negative=(), show_default=False)


def _whole(_kind: type, tokens: Sequence[Token]) -> int:
    """A whole number in decimal digits; cyclopts itself makes 1 of 1.5."""
    text = tokens[0].value
    if not re.fullmatch(r"-?[0-9]+", text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


WHOLE = Parameter(converter=_whole)

_HELP = ("--help", "-h")


def role(name: str, text: str) -> App:
    """The app of a role's commands: ``volact NAME COMMAND``."""
    return App(
        name=f"volact {name}",
        help=text,
        version_flags=[],
        usage=f"Usage: volact {name} COMMAND ... [--json]",
        default_parameter=PLAIN,
    )


def group(name: str, text: str) -> App:
    """A group of commands."""
    return App(name=name, help=text, default_parameter=PLAIN, version_flags=[])


def main(app: App, arguments: list[str], given: Mapping[str, object] | None = None) -> int:
    """Run a command of a role's app and say its exit code.

    `given` are values for parameters that no word on the command line sets (``parse=False``).
    """
    # Also `--json=true`, which cyclopts takes.
    json = any(word.split("=")[0] == "--json" for word in arguments)
    console = Console(json=json, words=arguments, known=lambda: _names(app))
    if not arguments:
        app.help_print([])
        return USAGE
    return run(console, lambda: _call(app, console, arguments, given or {}))


def _call(app: App, console: Console, arguments: list[str], given: Mapping[str, object]) -> int:
    if not all(word.isascii() or _is_text(word) for word in arguments):
        raise UsageError("An argument is not UTF-8 text.")
    if console.json and any(word in _HELP for word in arguments):
        console.answer({"help": _help_text(app, arguments)}, "")
        return DONE
    try:
        if not [word for word in arguments if word.split("=")[0] != "--json"]:
            raise UsageError("There is no command.")
        command, bound, unset = app.parse_args(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        raise UsageError(_said(error)) from None
    done = command(*bound.args, **bound.kwargs, **{name: given[name] for name in unset if name in given})
    return done if isinstance(done, int) else DONE


def _names(app: App) -> set[str]:
    """The names of all commands of an app."""
    names = {name for name in app if not name.startswith("-")}
    return names.union(*[_names(app[name]) for name in names])


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _help_text(app: App, arguments: Sequence[str]) -> str:
    """What --help prints, as a text."""
    import io  # noqa: PLC0415 - only --help pays for these

    from rich.console import Console as Terminal  # noqa: PLC0415

    text = io.StringIO()
    words = [word for word in arguments if word not in _HELP and word.split("=")[0] != "--json"]
    try:
        app.help_print(words, console=Terminal(file=text, width=100))
    except CycloptsError as error:
        raise UsageError(_said(error)) from None
    return text.getvalue()


def _said(error: CycloptsError) -> str:
    """What cyclopts says, on one line."""
    return " ".join(str(error).split())


def when(seconds: int) -> str:
    """A time as people and JSON read it: RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def url_of(host: str, port: int) -> str:
    """The address of a service that listens."""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def say_listening(console: Console, host: str, port: int, pid: int) -> None:
    """Say that a service takes requests: a remark, and with --json its one value while it runs on."""
    address = url_of(host, port)
    console.remark(f"listening on {address}")
    if console.json:
        sys.stdout.write(msgspec.json.encode({"listening": address, "pid": pid}).decode() + "\n")
        sys.stdout.flush()


def show(
    console: Console, value: object, rows: Sequence[Sequence[object]], head: Sequence[str], empty: str
) -> None:
    """Answer a list: JSON, or a table, or what to do so that there is something to list."""
    if not rows:
        console.answer(value, empty)
    elif console.json or not (sys.stdout and sys.stdout.isatty()):
        console.answer(value, table([[str(cell) for cell in row] for row in rows], head))
    else:
        from rich.console import Console as Terminal  # noqa: PLC0415 - only a terminal pays for this import
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        drawn = Table(*head, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            drawn.add_row(*[Text(printable(str(cell))) for cell in row])  # a name may hold [brackets]
        Terminal().print(drawn)


def read(path: Path, most: int) -> bytes:
    """Read a file that was named, and of one that is larger than `most` bytes one byte more.

    Raises:
        BrokenData: `not-readable`, with the name that was given.
    """
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except OSError as error:
        raise not_readable(path, error) from None


def not_readable(path: Path, error: OSError) -> BrokenData:
    """The refusal of a file that could not be read, by the name that was given."""
    return BrokenData(f"{path}: {error.strerror}.", "not-readable")


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Write a file that was asked for, durably.

    Raises:
        BrokenData: `not-writable`, with the name that was given.
    """
    try:
        write_durably(path, data, mode)
    except OSError as error:
        raise not_writable(path, error) from None


def not_writable(path: Path, error: OSError) -> BrokenData:
    """The refusal of a file that could not be written, by the name that was given."""
    return BrokenData(f"{path}: {error.strerror}.", "not-writable")
