"""The first schema: publisher, products, delegations, settings, records, events, tallies."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "delegation",
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("iat", sa.BigInteger(), nullable=False),
        sa.Column("exp", sa.BigInteger(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_delegation")),
    )
    op.create_table(
        "event",
        sa.Column("id", number(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.BigInteger(), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("product", sa.Text(), nullable=True),
        sa.Column("cmid", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("required", sa.BigInteger(), nullable=True),
        sa.Column("current", sa.BigInteger(), nullable=True),
        sa.Column("client_time", sa.BigInteger(), nullable=True),
        sa.Column("virtual", sa.Boolean(), nullable=True),
        sa.Column("state", sa.BigInteger(), nullable=True),
        sa.Column("minutes", sa.BigInteger(), nullable=True),
        sa.Column("renewal", sa.BigInteger(), nullable=True),
        sa.Column("retry", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_table(
        "peak",
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("prd", name=op.f("pk_peak")),
    )
    op.create_table(
        "product",
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("ver", sa.BigInteger(), nullable=False),
        sa.Column("edition", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("prd", name=op.f("pk_product")),
    )
    op.create_table(
        "publisher",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("lab", sa.Boolean(), nullable=False),
        sa.Column("root", sa.Text(), nullable=True),
        sa.Column("roots", sa.Text(), nullable=False),
        sa.Column("nonce_key", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_publisher")),
    )
    op.create_table(
        "record",
        sa.Column("id", number(), nullable=False),
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=False),
        sa.Column("server", sa.Boolean(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("fp", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("state", sa.BigInteger(), nullable=False),
        sa.Column("minutes", sa.BigInteger(), nullable=False),
        sa.Column("virtual", sa.Boolean(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("req", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("kid", sa.Text(), nullable=True),
        sa.Column("delegation", sa.Text(), nullable=True),
        sa.Column("lease", sa.Text(), nullable=True),
        sa.Column("lease_end", sa.BigInteger(), nullable=True),
        sa.Column("renewals", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_record")),
        sa.UniqueConstraint("cmid", "prd", name=op.f("uq_record_cmid_prd")),
    )
    op.create_index(op.f("ix_record_grp_server"), "record", ["grp", "server"])
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "tally",
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("state", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("outcome", "state", name=op.f("pk_tally")),
    )
