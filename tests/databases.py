"""Migrated, empty databases of one role, of both kinds: made once, then copied or emptied for each test."""

import shutil
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

import postgres
from volact import db
from volact.stores import Store

KINDS = ("sqlite", "postgresql")


class Databases:
    """The databases of the role whose `store` opens them and whose tables `metadata` lists."""

    def __init__(self, folder: Path, store: Callable[[sa.Engine], Store], metadata: sa.MetaData) -> None:
        self._template = folder / "template.db"
        self._store = store
        self._metadata = metadata
        self._urls: dict[str, str] = {}

    def sqlite(self, path: Path) -> Path:
        """A new file at `path`."""
        if not self._template.exists():
            store = self._store(db.connect(self._template))
            store.migrate()
            store.close()
        return Path(shutil.copy(self._template, path))

    def postgresql(self, server: postgres.Postgres, name: str = "") -> str:
        """The URL of the one database, or the one that a test calls so, emptied: making one takes longer than most."""
        if name not in self._urls:
            self._urls[name] = server.url(server.new_database())
        store = self._store(db.connect(self._urls[name]))
        store.migrate()
        with store.writing() as tx:
            for table in reversed(self._metadata.sorted_tables):
                tx.execute(table.delete())
        store.close()
        return self._urls[name]
