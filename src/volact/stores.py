"""A server role's database: migrate, write, read, and what fails as a problem with a code (DESIGN section 4).

Each role has its own tables and its own scripts; what a transaction promises is the same for all.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from volact import db
from volact.config import SettingInvalid
from volact.protocol.problems import BrokenData, Refusal, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine


class Conflict(Refused):
    """`busy`, because another process was first: what was to be done can be done again at once."""


class Store:
    """One role's database."""

    def __init__(self, engine: Engine, scripts: Path, revision: str) -> None:
        """Keep everything in the database of `engine`, whose schema the Alembic `scripts` bring to `revision`."""
        self.engine = engine
        self._scripts = scripts
        self._revision = revision

    def migrate(self) -> None:
        """Bring the schema up to date.

        Raises:
            BrokenData: if the store is of a newer version, damaged, or cannot be written.
        """
        with _as_problem():
            db.migrate(self.engine, self._scripts, self._revision)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A writing transaction; at its end everything in it is on disk.

        Raises:
            BrokenData: `storage-unavailable`; nothing of it was kept.
            Refused: `busy`; nothing of it was kept.
        """
        with _as_problem(), db.transaction(self.engine) as tx:
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A reading transaction; raises like `writing`."""
        with _as_problem(), db.reading(self.engine) as tx:
            yield tx

    def checkpoint(self) -> None:
        """Do the store's housekeeping beside the writer; raises like `reading`."""
        with _as_problem():
            db.checkpoint(self.engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def _as_problem() -> Iterator[None]:
    try:
        yield
    except db.StoreConflict as error:
        raise Conflict(Refusal("busy", str(error))) from error
    except db.StoreBusy as error:
        raise Refused(Refusal("busy", str(error))) from error
    except db.StorageUnavailable as error:
        raise BrokenData(str(error), "storage-unavailable") from error
    except db.StoreNewer as error:
        raise BrokenData(str(error), "store-newer") from error
    except db.StoreDamaged as error:
        raise BrokenData(str(error)) from error


def connect_setting(url: str) -> Engine:
    """The engine of the setting `database`.

    Raises:
        SettingInvalid: if it is no URL of a database; without the URL, which may hold a password.
    """
    if "://" not in url:
        raise SettingInvalid("The setting database is a postgresql:// URL; leave it out for SQLite.")
    try:
        return db.connect(url)
    except db.StoreError as error:
        raise SettingInvalid(str(error)) from None


def new_engine(database: str, file: Path) -> Engine:
    """The engine of a role that is being set up: of the setting `database`, or of its SQLite `file`.

    Raises:
        SettingInvalid: if the setting is no URL of a database.
    """
    return connect_setting(database) if database else db.connect(file)


def open_engine(database: str, file: Path) -> Engine:
    """The engine of a role that is set up: of the setting `database`, or of its SQLite `file`.

    Raises:
        SettingInvalid: if the setting is no URL of a database.
        BrokenData: if the file is missing.
    """
    if not database and not file.is_file():
        raise BrokenData(f"The store {file} is missing.", "not-readable")
    return new_engine(database, file)
