"""What machines gave back, and when its seat is free (M6); an index of what a status list names."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table and the index."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "returned",
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("key", number, nullable=False),
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("frees", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["act"], ["activation.act"], name=op.f("fk_returned_act")),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_returned_key")),
        sa.PrimaryKeyConstraint("act", name=op.f("pk_returned")),
    )
    listed = sa.text("blocked != ''")
    op.create_index(
        op.f("ix_activation_blocked"),
        "activation",
        ["blocked"],
        unique=False,
        sqlite_where=listed,
        postgresql_where=listed,
    )
    op.create_index(op.f("ix_returned_cmid"), "returned", ["cmid"], unique=False)
    op.create_index(op.f("ix_returned_key_at"), "returned", ["key", "at"], unique=False)
    op.create_index(op.f("ix_returned_key_frees"), "returned", ["key", "frees"], unique=False)
