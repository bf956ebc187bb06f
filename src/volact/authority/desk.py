"""What the publisher's commands share: the open store, answers as tables, times, files."""

from __future__ import annotations

import secrets
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from volact.authority import setup
from volact.authority.publisher import Office
from volact.console import table
from volact.files import PUBLIC, write_durably
from volact.protocol.problems import BrokenData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from volact.console import Console


Json = Annotated[bool, Parameter(name="--json", help="Answer with one JSON value.")]
Label = Annotated[str, Parameter(help="The key's last group.")]


def group(name: str, text: str) -> App:
    """A group of commands."""
    return App(name=name, help=text, default_parameter=PLAIN, version_flags=[])


# A flag has no opposite, and a list no word for "empty"; the help says a default where one matters.
PLAIN = Parameter(negative=(), show_default=False)


@contextmanager
def office() -> Iterator[tuple[setup.Opened, Office]]:
    """The authority that is set up here, and the publisher's office over it."""
    with setup.opened() as opened:
        yield opened, Office(opened.clock, opened.store, opened.keyring, secrets.token_bytes)


def when(seconds: int) -> str:
    """A time as people and JSON read it: RFC 3339, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def show(
    console: Console, value: object, rows: Sequence[Sequence[object]], head: Sequence[str], empty: str
) -> None:
    """Answer a list: JSON, or a table, or what to do so that there is something to list."""
    if not rows:
        console.answer(value, empty)
    elif console.json or not sys.stdout.isatty():
        console.answer(value, table([[str(cell) for cell in row] for row in rows], head))
    else:
        from rich.console import Console as Terminal  # noqa: PLC0415 - only a terminal pays for this import
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        drawn = Table(*head, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            drawn.add_row(*[Text(str(cell)) for cell in row])  # as it is: a name may hold [brackets]
        Terminal().print(drawn)


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
