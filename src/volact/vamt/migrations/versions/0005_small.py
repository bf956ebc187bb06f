"""The names of groups in small letters: SQLite and some locales of PostgreSQL know no small ones but ASCII's (V3)."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column, and fill it as `groups.create` does."""
    op.add_column("grp", sa.Column("small", sa.Text(), nullable=False, server_default=""))
    grp = sa.table(
        "grp", sa.column("id", sa.BigInteger()), sa.column("name", sa.Text()), sa.column("small", sa.Text())
    )
    there = op.get_bind()
    for number, name in there.execute(sa.select(grp.c.id, grp.c.name)).all():
        there.execute(sa.update(grp).where(grp.c.id == number).values(small=name.lower()))
