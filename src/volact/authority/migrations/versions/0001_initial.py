"""The first schema: publisher, products, keys, activations, answers, hosts, status list."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "customer",
        sa.Column("id", number(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cus", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer")),
        sa.UniqueConstraint("cus", name=op.f("uq_customer_cus")),
        sa.UniqueConstraint("name", name=op.f("uq_customer_name")),
    )
    op.create_table(
        "delegation",
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("signer", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), nullable=False),
        sa.Column("rol", sa.Text(), nullable=False),
        sa.Column("iat", sa.BigInteger(), nullable=False),
        sa.Column("exp", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_delegation")),
    )
    op.create_table(
        "product",
        sa.Column("id", number(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("ver", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_product")),
        sa.UniqueConstraint("prd", name=op.f("uq_product_prd")),
    )
    op.create_table(
        "publisher",
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("lab", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pub", name=op.f("pk_publisher")),
    )
    op.create_table(
        "root_document",
        sa.Column("ver", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("x", sa.Text(), nullable=False),
        sa.Column("y", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ver", name=op.f("pk_root_document")),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "status_list",
        sa.Column("ver", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("iat", sa.BigInteger(), nullable=False),
        sa.Column("nxt", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("delegation", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ver", name=op.f("pk_status_list")),
    )
    op.create_table(
        "usage",
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_usage")),
    )
    op.create_table(
        "product_key",
        sa.Column("id", number(), nullable=False),
        sa.Column("thumbprint", sa.Text(), nullable=False),
        sa.Column("x", sa.Text(), nullable=False),
        sa.Column("y", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("product", number(), nullable=False),
        sa.Column("customer", number(), nullable=False),
        sa.Column("bought", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("blocked", sa.Text(), nullable=False),
        sa.Column("blocked_since", sa.BigInteger(), nullable=False),
        sa.Column("machines_bound", sa.Boolean(), nullable=False),
        sa.Column("networks_bound", sa.Boolean(), nullable=False),
        sa.Column("host_machines", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["customer"], ["customer.id"], name=op.f("fk_product_key_customer")),
        sa.ForeignKeyConstraint(["product"], ["product.id"], name=op.f("fk_product_key_product")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_product_key")),
        sa.UniqueConstraint("label", name=op.f("uq_product_key_label")),
        sa.UniqueConstraint("thumbprint", name=op.f("uq_product_key_thumbprint")),
    )
    op.create_table(
        "product_version",
        sa.Column("product", number(), nullable=False),
        sa.Column("ver", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("delegation", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["product"], ["product.id"], name=op.f("fk_product_version_product")),
        sa.PrimaryKeyConstraint("product", "ver", name=op.f("pk_product_version")),
    )
    op.create_table(
        "activation",
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("key", number(), nullable=False),
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("fp", sa.Text(), nullable=False),
        sa.Column("find_uuid", sa.Text(), nullable=True),
        sa.Column("find_board", sa.Text(), nullable=True),
        sa.Column("find_disk", sa.Text(), nullable=True),
        sa.Column("find_net", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("blocked", sa.Text(), nullable=False),
        sa.Column("blocked_since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_activation_key")),
        sa.PrimaryKeyConstraint("act", name=op.f("pk_activation")),
        sa.UniqueConstraint("key", "cmid", name=op.f("uq_activation_key_cmid")),
    )
    op.create_index(
        op.f("ix_activation_find_board_find_uuid"), "activation", ["find_board", "find_uuid"], unique=False
    )
    op.create_index(
        op.f("ix_activation_find_disk_find_uuid"), "activation", ["find_disk", "find_uuid"], unique=False
    )
    op.create_index(
        op.f("ix_activation_find_net_find_uuid"), "activation", ["find_net", "find_uuid"], unique=False
    )
    op.create_index(op.f("ix_activation_find_uuid"), "activation", ["find_uuid"], unique=False)
    op.create_table(
        "answer",
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("req", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", number(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("delegation", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_answer_key")),
        sa.PrimaryKeyConstraint("act", "req", name=op.f("pk_answer")),
    )
    op.create_table(
        "event",
        sa.Column("id", number(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", number(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_event_key")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_table(
        "host",
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("key", number(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("activations", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.Column("blocked", sa.Text(), nullable=False),
        sa.Column("blocked_since", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_host_key")),
        sa.PrimaryKeyConstraint("act", name=op.f("pk_host")),
        sa.UniqueConstraint("key", "host", name=op.f("uq_host_key_host")),
    )
    op.create_table(
        "key_machine",
        sa.Column("key", number(), nullable=False),
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_key_machine_key")),
        sa.PrimaryKeyConstraint("key", "cmid", name=op.f("pk_key_machine")),
    )
    op.create_table(
        "key_network",
        sa.Column("key", number(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_key_network_key")),
        sa.PrimaryKeyConstraint("key", "network", name=op.f("pk_key_network")),
    )
    op.create_table(
        "key_product",
        sa.Column("key", number(), nullable=False),
        sa.Column("product", number(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_key_product_key")),
        sa.ForeignKeyConstraint(["product"], ["product.id"], name=op.f("fk_key_product_product")),
        sa.PrimaryKeyConstraint("key", "product", name=op.f("pk_key_product")),
    )
    op.create_table(
        "source",
        sa.Column("key", number(), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["key"], ["product_key.id"], name=op.f("fk_source_key")),
        sa.PrimaryKeyConstraint("key", "network", name=op.f("pk_source")),
    )
    op.create_table(
        "change",
        sa.Column("id", number(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("cmid_before", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["act"], ["activation.act"], name=op.f("fk_change_act")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change")),
    )
    op.create_index(op.f("ix_change_act"), "change", ["act"], unique=False)
    op.create_index(op.f("ix_change_cmid_before"), "change", ["cmid_before"], unique=False)
