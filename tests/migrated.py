"""What every role's migrations hold to: the code's own schema, and nothing of a newer version (DESIGN section 4)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from volact import db
from volact.protocol.problems import BrokenData
from volact.stores import Store


def is_the_schema_of(metadata: sa.MetaData, database: str | Path) -> bool:
    """Whether a migrated database has the tables that the code has."""
    engine = db.connect(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    return not differences


def newest(scripts: Path) -> list[str]:
    """The revisions that no script goes on from."""
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config).get_heads()


def newer_is_refused(open_: Callable[[sa.Engine], Store], database: str | Path, revision: str) -> None:
    """A store of a newer version is refused, and not touched."""
    engine = db.connect(database)
    with db.transaction(engine) as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(BrokenData) as refused:
        open_(engine).migrate()
    assert (refused.value.refusal.code, refused.value.exit_code) == ("store-newer", 4)
    assert db.revision(engine) == "9999"
    with db.transaction(engine) as tx:
        tx.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    engine.dispose()
