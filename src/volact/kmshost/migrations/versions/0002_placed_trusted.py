"""Where each product's records stand, and which time was believed last."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "placed",
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=False),
        sa.Column("server", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("prd", name=op.f("pk_placed")),
    )
    op.create_table(
        "trusted",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("now", sa.BigInteger(), nullable=False),
        sa.Column("rested", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trusted")),
    )
