"""The first schema: VAMT's machines, products, groups, keys, actions, computer lists, people and audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "action",
        sa.Column("id", number(), nullable=False),
        sa.Column("aid", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("selection", sa.Text(), nullable=False),
        sa.Column("dry", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_action")),
        sa.UniqueConstraint("aid", name=op.f("uq_action_aid")),
    )
    op.create_index(op.f("ix_action_state"), "action", ["state"], unique=False)
    op.create_table(
        "audit",
        sa.Column("id", number(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "computer_list",
        sa.Column("id", number(), nullable=False),
        sa.Column("lid", sa.Text(), nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_computer_list")),
        sa.UniqueConstraint("lid", name=op.f("uq_computer_list_lid")),
    )
    op.create_table(
        "confirmation",
        sa.Column("id", number(), nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("fp", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.Column("mid", sa.Text(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_confirmation")),
        sa.UniqueConstraint("pub", "prd", "act", "cmid", name=op.f("uq_confirmation_pub_prd_act_cmid")),
    )
    op.create_index(op.f("ix_confirmation_mid"), "confirmation", ["mid"], unique=False)
    op.create_table(
        "credential",
        sa.Column("grp", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("grp", name=op.f("pk_credential")),
    )
    op.create_table(
        "grp",
        sa.Column("id", number(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_grp")),
        sa.UniqueConstraint("name", name=op.f("uq_grp_name")),
    )
    op.create_table(
        "machine",
        sa.Column("id", number(), nullable=False),
        sa.Column("mid", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("former", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("port", sa.BigInteger(), nullable=True),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.Column("virtual", sa.Boolean(), nullable=True),
        sa.Column("hypervisor", sa.Text(), nullable=False),
        sa.Column("host_identity", sa.Text(), nullable=False),
        sa.Column("instances", sa.BigInteger(), nullable=True),
        sa.Column("found_by", sa.Text(), nullable=False),
        sa.Column("products", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.BigInteger(), nullable=False),
        sa.Column("last_seen", sa.BigInteger(), nullable=False),
        sa.Column("collected", sa.BigInteger(), nullable=True),
        sa.Column("tried", sa.BigInteger(), nullable=True),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_machine")),
        sa.UniqueConstraint("mid", name=op.f("uq_machine_mid")),
    )
    op.create_index(op.f("ix_machine_identity"), "machine", ["identity"], unique=False)
    op.create_index(op.f("ix_machine_name_domain"), "machine", ["name", "domain"], unique=False)
    op.create_table(
        "own",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_own")),
    )
    op.create_table(
        "person",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=True),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_person")),
    )
    op.create_table(
        "publisher",
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lab", sa.Boolean(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("roots", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("tls", sa.Text(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("pub", name=op.f("pk_publisher")),
    )
    op.create_table(
        "schedule",
        sa.Column("id", number(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("selection", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("every", sa.BigInteger(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=True),
        sa.Column("result", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule")),
        sa.UniqueConstraint("name", name=op.f("uq_schedule_name")),
    )
    op.create_table(
        "setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_setting")),
    )
    op.create_table(
        "view",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("sort", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_view")),
    )
    op.create_table(
        "writer",
        sa.Column("fp", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("trusted", sa.Boolean(), nullable=False),
        sa.Column("met", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("fp", name=op.f("pk_writer")),
    )
    op.create_table(
        "action_row",
        sa.Column("id", number(), nullable=False),
        sa.Column("action", number(), nullable=False),
        sa.Column("mid", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["action"], ["action.id"], name=op.f("fk_action_row_action")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_action_row")),
        sa.UniqueConstraint("action", "mid", "pub", "prd", name=op.f("uq_action_row_action_mid_pub_prd")),
    )
    op.create_index(op.f("ix_action_row_mid"), "action_row", ["mid"], unique=False)
    op.create_index(op.f("ix_action_row_state_action"), "action_row", ["state", "action"], unique=False)
    op.create_table(
        "address",
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("machine", number(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine"], ["machine.id"], name=op.f("fk_address_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("address", "machine", name=op.f("pk_address")),
    )
    op.create_index(op.f("ix_address_machine"), "address", ["machine"], unique=False)
    op.create_table(
        "alias",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("machine", number(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine"], ["machine.id"], name=op.f("fk_alias_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("name", "domain", name=op.f("pk_alias")),
    )
    op.create_index(op.f("ix_alias_machine"), "alias", ["machine"], unique=False)
    op.create_table(
        "cmid",
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("machine", number(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine"], ["machine.id"], name=op.f("fk_cmid_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("cmid", "pub", "machine", name=op.f("pk_cmid")),
    )
    op.create_index(op.f("ix_cmid_machine"), "cmid", ["machine"], unique=False)
    op.create_table(
        "installed",
        sa.Column("id", number(), nullable=False),
        sa.Column("machine", number(), nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("domain", sa.Text(), nullable=False),
        sa.Column("state", sa.BigInteger(), nullable=False),
        sa.Column("cmid", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("partial_key", sa.Text(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("iid", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("collected", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine"], ["machine.id"], name=op.f("fk_installed_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installed")),
        sa.UniqueConstraint("machine", "pub", "prd", name=op.f("uq_installed_machine_pub_prd")),
    )
    op.create_index(
        op.f("ix_installed_channel_state_name_domain_prd"),
        "installed",
        ["channel", "state", "name", "domain", "prd"],
        unique=False,
    )
    op.create_index(op.f("ix_installed_expires_name"), "installed", ["expires", "name"], unique=False)
    op.create_index(
        op.f("ix_installed_name_domain_prd"), "installed", ["name", "domain", "prd"], unique=False
    )
    op.create_index(
        op.f("ix_installed_prd_state_name_domain"),
        "installed",
        ["prd", "state", "name", "domain"],
        unique=False,
    )
    op.create_index(
        op.f("ix_installed_state_name_domain_prd"),
        "installed",
        ["state", "name", "domain", "prd"],
        unique=False,
    )
    op.create_table(
        "key",
        sa.Column("id", number(), nullable=False),
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("thumbprint", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("bought", sa.BigInteger(), nullable=True),
        sa.Column("activated", sa.BigInteger(), nullable=True),
        sa.Column("remaining", sa.BigInteger(), nullable=True),
        sa.Column("as_of", sa.BigInteger(), nullable=True),
        sa.Column("statement", sa.Text(), nullable=True),
        sa.Column("blocked", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["pub"], ["publisher.pub"], name=op.f("fk_key_pub")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_key")),
        sa.UniqueConstraint("pub", "thumbprint", name=op.f("uq_key_pub_thumbprint")),
    )
    op.create_table(
        "list_row",
        sa.Column("id", number(), nullable=False),
        sa.Column("list", number(), nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("mid", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("op", sa.Text(), nullable=False),
        sa.Column("jti", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["list"], ["computer_list.id"], name=op.f("fk_list_row_list")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_list_row")),
        sa.UniqueConstraint("list", "row", name=op.f("uq_list_row_list_row")),
    )
    op.create_index(op.f("ix_list_row_jti"), "list_row", ["jti"], unique=False)
    op.create_index(op.f("ix_list_row_mid"), "list_row", ["mid"], unique=False)
    op.create_table(
        "member",
        sa.Column("grp", number(), nullable=False),
        sa.Column("machine", number(), nullable=False),
        sa.ForeignKeyConstraint(["grp"], ["grp.id"], name=op.f("fk_member_grp"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["machine"], ["machine.id"], name=op.f("fk_member_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("grp", "machine", name=op.f("pk_member")),
    )
    op.create_index(op.f("ix_member_machine"), "member", ["machine"], unique=False)
    op.create_table(
        "product",
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("prd", sa.Text(), nullable=False),
        sa.Column("ver", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("edition", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["pub"], ["publisher.pub"], name=op.f("fk_product_pub")),
        sa.PrimaryKeyConstraint("pub", "prd", name=op.f("pk_product")),
    )
    op.create_table(
        "said",
        sa.Column("machine", number(), autoincrement=False, nullable=False),
        sa.Column("addresses", sa.Text(), nullable=False),
        sa.Column("macs", sa.Text(), nullable=False),
        sa.Column("host_keys", sa.Text(), nullable=False),
        sa.Column("sources", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine"], ["machine.id"], name=op.f("fk_said_machine"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine", name=op.f("pk_said")),
    )
    op.create_table(
        "status_list",
        sa.Column("pub", sa.Text(), nullable=False),
        sa.Column("issued", sa.BigInteger(), nullable=False),
        sa.Column("ver", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("fetched", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["pub"], ["publisher.pub"], name=op.f("fk_status_list_pub")),
        sa.PrimaryKeyConstraint("pub", name=op.f("pk_status_list")),
    )
    op.create_table(
        "token",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["person"], ["person.name"], name=op.f("fk_token_person"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_person"), "token", ["person"], unique=False)
    op.create_table(
        "shown",
        sa.Column("installed", number(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["installed"], ["installed.id"], name=op.f("fk_shown_installed"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("installed", name=op.f("pk_shown")),
    )
