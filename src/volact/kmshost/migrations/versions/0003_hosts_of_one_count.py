"""What several hosts of one count need, and what is told apart.

Settings of each host, what each publishes in DNS, copies that were told apart, enrolled machines, and the publisher's
status list. Settings that were set by command belong to the hosts that have been activated; one that has not been
must be told again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Give each host its settings, and make the tables."""
    op.rename_table("setting", "setting_before")
    op.create_table(
        "setting",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("host", "name", name=op.f("pk_setting_host")),
    )
    op.execute(
        "INSERT INTO setting (host, name, value)"
        " SELECT DISTINCT d.host, s.name, s.value FROM setting_before s CROSS JOIN delegation d"
    )
    op.drop_table("setting_before")
    op.add_column("placed", sa.Column("strong", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "published",
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("port", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.BigInteger(), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("host", "domain", name=op.f("pk_published")),
    )
    op.create_table(
        "clone",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("fp", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clone")),
        sa.UniqueConstraint("cmid", "prd", "fp", name=op.f("uq_clone_cmid_prd_fp")),
    )
    op.create_table(
        "enrolled",
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cmid", name=op.f("pk_enrolled")),
    )
    op.create_table(
        "status_list",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("issued", sa.BigInteger(), nullable=False),
        sa.Column("ver", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("fetched", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_status_list")),
    )
