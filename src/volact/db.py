"""SQLite or PostgreSQL, the same code for both: connect, transaction, migrate (DESIGN section 4).

- Durable means durable: a commit returns when it is on disk. SQLite runs in WAL with `synchronous=FULL` where
  its library is free of the WAL corruption race, else in DELETE with `synchronous=EXTRA`; never in anything else.
- A writing transaction holds the write lock from its first statement (`BEGIN IMMEDIATE`), so that what it read
  still stands when it writes. On PostgreSQL the store locks the rows that it decides on.
- A full disk, a lost server and a busy file are three errors with names; nothing of SQL leaves this module.
"""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

try:
    from pysqlite3 import dbapi2 as _own_sqlite
except ImportError:
    _own_sqlite = None

_BUSY_MS = 5000
_CACHE_KIB = 65536
# In pages: 64 MiB. A commit that passes it copies what `checkpoint`, beside the writer, has not copied yet.
_CHECKPOINT_EVERY = 16384
_READ_ONLY = "volact_read_only"
_VERSION_TABLE = "alembic_version"

# PostgreSQL's SQLSTATE: disk full and other exhausted resources, lost connections, a server that stops, one that
# only reads (a standby), and one that does not let us in or write.
_PG_STORAGE = ("53", "57P", "58", "08", "25006", "28", "3D", "42501")
# A server that has gone without a word is noticed within these seconds, not after TCP's own two hours.
_PG_WAITS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# What a waiting writer is to SQLite's busy timeout; and a server that is set to lose commits is told not to.
_PG_SESSION = (
    f"SELECT set_config('lock_timeout', '{_BUSY_MS}', false)",
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')",
)
# Another process was first, with a unique row or in a deadlock: a repetition finds what it wrote.
_PG_CONFLICT = ("40", "23505")
_PG_BUSY = ("55P03",)


class StoreError(Exception):
    """Base of what a store can suffer; the message holds no SQL and no values."""


class StorageUnavailable(StoreError):
    """The disk is full or broken, or the database is gone; nothing of the transaction was kept."""


class StoreBusy(StoreError):
    """Somebody else held the store for too long; nothing was kept."""


class StoreConflict(StoreBusy):
    """Another process was first; nothing was kept, and the same can be done again at once."""


class StoreNewer(StoreError):
    """The store was written by a newer version of volact; an older one does not touch it."""


class StoreDamaged(StoreError):
    """The file is no database, or a damaged one."""


class Journal(NamedTuple):
    """How SQLite keeps a transaction: its `journal_mode` and `synchronous`."""

    mode: str
    synchronous: str


def journal_for(version: tuple[int, ...]) -> Journal:
    """The journal of a SQLite library: WAL where the library has the fix of its corruption race, else DELETE."""
    fixed = (
        version >= (3, 51, 3)
        or (version[:2] == (3, 50) and version >= (3, 50, 7))
        or (version[:2] == (3, 44) and version >= (3, 44, 6))
    )
    return Journal("WAL", "FULL") if fixed else Journal("DELETE", "EXTRA")


def sqlite_library() -> ModuleType:
    """The SQLite driver in use: pysqlite3's own current library, else the standard library's."""
    return _own_sqlite or sqlite3


def connect(url: str | Path, *, library: ModuleType | None = None) -> sa.Engine:
    """An engine for a PostgreSQL URL, or for the SQLite file at a path.

    `library` chooses the SQLite driver; tests use it to run the standard library's.

    Raises:
        StorageUnavailable: if the URL is of no database that volact speaks to.
    """
    if isinstance(url, str) and "://" in url:
        return _connect_postgresql(url)
    driver: Any = library or sqlite_library()
    journal = journal_for(driver.sqlite_version_info)
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=str(url)),
        module=driver,
        connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False, "isolation_level": None},
        pool_reset_on_return=None,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's connection
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            mode = str(cursor.execute(f"PRAGMA journal_mode = {journal.mode}").fetchone()[0]).upper()
            # It answers the mode that it has: a file system without shared memory has no WAL.
            cursor.execute(f"PRAGMA synchronous = {'FULL' if mode == 'WAL' else 'EXTRA'}")
            cursor.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_EVERY}").fetchone()
        finally:
            cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        read_only = connection.get_execution_options().get(_READ_ONLY)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _connect_postgresql(text: str) -> sa.Engine:
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        # A bad port is a ValueError, whose text may be a part of a password.
        raise StorageUnavailable("The setting `database` is no database URL.") from None
    if url.get_backend_name() != "postgresql":
        raise StorageUnavailable("The setting `database` takes a postgresql:// URL, or nothing for SQLite.")
    # pre_ping: after the server was away the next transaction connects anew, without a restart of ours.
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        connect_args={name: value for name, value in _PG_WAITS.items() if name not in url.query},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's connection
        for statement in _PG_SESSION:
            connection.execute(statement)
        connection.commit()

    return engine


@contextmanager
def transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One writing transaction: everything in it is on disk when it ends, or nothing of it happened.

    Raises:
        StoreError: what kept it from being done.
    """
    with _translated(), engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One reading transaction, a consistent view; keep it short.

    Raises:
        StoreError: what kept it from being done.
    """
    with _translated(), engine.connect() as connection:
        connection = connection.execution_options(**{_READ_ONLY: True})  # noqa: PLW2901 - the same one, marked
        with connection.begin():
            yield connection


def checkpoint(engine: sa.Engine) -> None:
    """Copy what SQLite's WAL holds into the database, beside the writer; a service does it every second.

    Then a commit that passes the WAL's bound has little left to copy. Elsewhere there is nothing to do.

    Raises:
        StoreError: what kept it from being done.
    """
    if engine.dialect.name == "sqlite":
        with _translated(), contextlib.closing(engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exc.DBAPIError as error:
        raise _meaning(error) from error
    except exc.TimeoutError as error:
        raise StoreBusy("All connections to the database are in use.") from error


def _meaning(error: exc.DBAPIError) -> Exception:
    """The error as one of ours; one that only a mistake in our own code can cause stays what it is."""
    original = error.orig
    state = getattr(original, "sqlstate", None)
    if state and state.startswith(_PG_CONFLICT):
        return StoreConflict("The database asks for a repetition.")
    if state and state.startswith(_PG_BUSY):
        return StoreBusy("Another process holds what is to be written.")
    if error.connection_invalidated or (state and state.startswith(_PG_STORAGE)):
        return StorageUnavailable("The database is not there, or cannot store any more.")
    name = getattr(original, "sqlite_errorname", "") or _named(str(original))
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreBusy("Another process holds the database.")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return StorageUnavailable("The disk is full, broken or not writable.")
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StoreDamaged("The file is no database, or a damaged one.")
    if state is None and "psycopg" in type(original).__module__:
        if error.statement is None and isinstance(error, exc.ProgrammingError):
            return StorageUnavailable("The setting `database` has an option that PostgreSQL does not know.")
        if isinstance(error, exc.OperationalError):
            return StorageUnavailable("The database is not there.")
    return error


# Older drivers give SQLite's sentence and no name.
_SENTENCES = {
    "database is locked": "SQLITE_BUSY",
    "database table is locked": "SQLITE_LOCKED",
    "database or disk is full": "SQLITE_FULL",
    "disk I/O error": "SQLITE_IOERR",
    "unable to open database file": "SQLITE_CANTOPEN",
    "attempt to write a readonly database": "SQLITE_READONLY",
    "file is not a database": "SQLITE_NOTADB",
    "database disk image is malformed": "SQLITE_CORRUPT",
}


def _named(sentence: str) -> str:
    return next((name for known, name in _SENTENCES.items() if sentence.startswith(known)), "")


def describe(engine: sa.Engine) -> str:
    """What stores the data, for people: ``SQLite 3.53.4, WAL, synchronous=FULL`` or ``PostgreSQL 15.10``."""
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":
            return f"PostgreSQL {connection.exec_driver_sql('SHOW server_version').scalar_one()}"
        version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
        mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()).upper()
        level = {2: "FULL", 3: "EXTRA"}.get(
            connection.exec_driver_sql("PRAGMA synchronous").scalar_one(), "?"
        )
        return f"SQLite {version}, {mode}, synchronous={level}"


def revision(engine: sa.Engine) -> str | None:
    """The schema revision of a store; None if it has none yet."""
    with reading(engine) as connection:
        if not sa.inspect(connection).has_table(_VERSION_TABLE):
            return None
        return connection.exec_driver_sql(f"SELECT version_num FROM {_VERSION_TABLE}").scalar()  # noqa: S608 - a constant


def migrate(engine: sa.Engine, scripts: Path, head: str) -> None:
    """Bring a store to revision `head` by the Alembic scripts in a folder, in one transaction.

    Raises:
        StoreNewer: if the store's revision is none of these scripts'.
    """
    present = revision(engine)
    if present == head:
        return  # Alembic's import costs more than most commands
    from alembic import command  # noqa: PLC0415 - only when there is work for it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if present is not None and present not in known:
        raise StoreNewer("The store was written by a newer version of volact.")
    with transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, head)
