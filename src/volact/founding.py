"""How a server role's folder and store come to be: whole, or not at all (`init`).

Everything is made in a folder aside, which gets to its place by one rename. Where the store is a database of its own the
folder goes to its place before the database's transaction ends: rows without the folder's key would be of no use.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from volact.files import into_place, make_folder
from volact.protocol.problems import Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from volact.stores import Store


def check_free(place: Path) -> None:
    """Refuse a place that is taken.

    Raises:
        Refused: `already-exists`.
    """
    if place.exists():
        raise Refused(Refusal("already-exists", f"{place} is there already."))


@contextmanager
def made_aside(place: Path) -> Iterator[Path]:
    """A new folder beside `place`, in which to make what is to be there; if that fails nothing is left of it.

    Raises:
        OSError: if it cannot be made.
    """
    make_folder(place.parent)
    aside = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield aside
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


@contextmanager
def founded(store: Store, aside: Path, place: Path, database: str) -> Iterator[Connection]:
    """A transaction in a new store; when it holds, the folder is in its place, and the store closed.

    `database` is that setting: empty if the store is a file in the folder.

    Raises:
        VolactError, OSError: if something cannot be written; then nothing is in place.
    """
    try:
        store.migrate()
        with store.writing() as tx:
            yield tx
            if database:
                into_place(aside, place)
    except BaseException:
        if database and place.exists() and not aside.exists():
            shutil.rmtree(place, ignore_errors=True)
        raise
    finally:
        store.close()
    if not database:
        into_place(aside, place)
