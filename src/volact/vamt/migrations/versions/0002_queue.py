"""Rows of actions that wait for their machine: with which key, when they are due, and until when (V5).

Nothing wrote rows before this version, so the table is made anew and loses none.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of rows anew, with its queue."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.drop_table("action_row")
    op.create_table(
        "action_row",
        sa.Column("id", number, nullable=False),
        sa.Column("action", number, nullable=False),
        sa.Column("mid", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=True),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["action"], ["action.id"], name=op.f("fk_action_row_action")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_action_row")),
        sa.UniqueConstraint("action", "mid", "pub", "prd", name=op.f("uq_action_row_action_mid_pub_prd")),
    )
    op.create_index(op.f("ix_action_row_mid"), "action_row", ["mid"], unique=False)
    op.create_index(op.f("ix_action_row_state_action"), "action_row", ["state", "action"], unique=False)
    op.create_index(op.f("ix_action_row_state_due"), "action_row", ["state", "due"], unique=False)
