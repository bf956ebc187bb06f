"""The authority's tables, the same on SQLite and PostgreSQL. `migrations` makes them; a test compares the two.

- Truth is rows. `product_key.used` is a counter beside the rows of `activation` (of `host`, for a host key) and
  moves only in the transaction that writes them, by one UPDATE that cannot pass `bought`.
- A product key is here by its public half alone; nothing here helps to find its secret.
- Times are integer seconds UTC from the one injected clock.
"""

from __future__ import annotations

import sqlalchemy as sa

REVISION = "0001"
"""The newest script in `migrations`; a test holds it."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by INTEGER PRIMARY KEY only; PostgreSQL's integer would end at 2^31.
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _number(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, _NUMBER, primary_key=True)


def _text(name: str, **options: object) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, **options)  # type: ignore[arg-type]


def _integer(name: str, **options: object) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, **options)  # type: ignore[arg-type]


def _to(name: str, target: str, **options: object) -> sa.Column[int]:
    return sa.Column(name, _NUMBER, sa.ForeignKey(target), nullable=False, **options)  # type: ignore[arg-type]


publisher = sa.Table(
    "publisher",
    metadata,
    _text("pub", primary_key=True),
    _text("name"),
    _text("url"),
    sa.Column("lab", sa.Boolean, nullable=False),
    _integer("created"),
)

root_document = sa.Table(
    "root_document",
    metadata,
    _integer("ver", primary_key=True, autoincrement=False),
    _text("token"),
    _text("x"),
    _text("y"),
)

# Every delegation ever signed is kept: a kept answer travels with the one that was in force at its iat.
# `token` is there where the signing key may be away (the root's); others are signed again from their payload.
delegation = sa.Table(
    "delegation",
    metadata,
    _text("jti", primary_key=True),
    _text("signer"),
    _text("sub"),
    _text("rol"),
    _integer("iat"),
    _integer("exp"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("token", sa.Text),
)

product = sa.Table("product", metadata, _number(), _text("prd", unique=True), _integer("ver"))

product_version = sa.Table(
    "product_version",
    metadata,
    _to("product", "product.id", primary_key=True),
    _integer("ver", primary_key=True, autoincrement=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _text("kid"),
    _text("delegation"),
)

customer = sa.Table(
    "customer",
    metadata,
    _number(),
    _text("name", unique=True),
    _text("cus", unique=True),
    _integer("created"),
)

product_key = sa.Table(
    "product_key",
    metadata,
    _number(),
    _text("thumbprint", unique=True),
    _text("x"),
    _text("y"),
    _text("kind"),
    _text("label", unique=True),
    _to("product", "product.id"),
    _to("customer", "customer.id"),
    _integer("bought"),
    _integer("used"),
    _text("blocked"),
    _integer("blocked_since"),
    sa.Column("machines_bound", sa.Boolean, nullable=False),
    sa.Column("networks_bound", sa.Boolean, nullable=False),
    _integer("host_machines"),
    _integer("created"),
)

# A host key may name several products; the first is `product_key.product`, all of them are here.
key_product = sa.Table(
    "key_product",
    metadata,
    _to("key", "product_key.id", primary_key=True),
    _to("product", "product.id", primary_key=True),
)
key_machine = sa.Table(
    "key_machine", metadata, _to("key", "product_key.id", primary_key=True), _text("cmid", primary_key=True)
)
key_network = sa.Table(
    "key_network",
    metadata,
    _to("key", "product_key.id", primary_key=True),
    _text("network", primary_key=True),
)

# `act` begins with its time, so that its index grows at one end. `fp` is the JSON of the last granted vector,
# find_* are its search tokens (protocol.machine.search_tokens) by kind.
activation = sa.Table(
    "activation",
    metadata,
    _text("act", primary_key=True),
    _to("key", "product_key.id"),
    _text("cmid"),
    _text("fp"),
    sa.Column("find_uuid", sa.Text),
    sa.Column("find_board", sa.Text),
    sa.Column("find_disk", sa.Text),
    sa.Column("find_net", sa.Text),
    _integer("created"),
    _integer("granted"),
    _text("blocked"),
    _integer("blocked_since"),
    sa.UniqueConstraint("key", "cmid"),
    sa.Index(None, "find_uuid"),
    # With the UUID beside it: who has one is looked up by it, and among rows without one by the rest. A board's
    # hash has 16 bits, so a million rows share each value some 15 times; those must not all be fetched.
    sa.Index(None, "find_board", "find_uuid"),
    sa.Index(None, "find_disk", "find_uuid"),
    sa.Index(None, "find_net", "find_uuid"),
)

# Each time an activation went to rebuilt (``taken over``) or changed (``moved``) hardware.
change = sa.Table(
    "change",
    metadata,
    _number(),
    sa.Column("act", sa.Text, sa.ForeignKey("activation.act"), nullable=False, index=True),
    _integer("at"),
    _text("how"),
    _text("cmid_before", index=True),
)

# What was asked and what is answered, written before it is signed. `act` is that of an activation or a host, and
# comes first in the key: it begins with its time, so the index of a million grows at one end and not everywhere.
answer = sa.Table(
    "answer",
    metadata,
    _text("act", primary_key=True),
    _text("req", primary_key=True),
    _text("digest"),
    _text("name"),
    _to("key", "product_key.id"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    _text("kid"),
    _text("delegation"),
)

host = sa.Table(
    "host",
    metadata,
    _text("act", primary_key=True),
    _to("key", "product_key.id"),
    _text("host"),
    _integer("activations"),
    _integer("created"),
    _integer("granted"),
    _integer("expires"),
    _text("blocked"),
    _integer("blocked_since"),
    sa.UniqueConstraint("key", "host"),
)

usage = sa.Table(
    "usage",
    metadata,
    _text("jti", primary_key=True),
    _text("host"),
    _text("ref"),
    _integer("received"),
    _text("token"),
)

source = sa.Table(
    "source",
    metadata,
    _to("key", "product_key.id", primary_key=True),
    _text("network", primary_key=True),
    _integer("first_seen"),
)

event = sa.Table(
    "event",
    metadata,
    _number(),
    _integer("at"),
    _text("name"),
    sa.Column("key", _NUMBER, sa.ForeignKey("product_key.id")),
    _text("detail"),
)

status_list = sa.Table(
    "status_list",
    metadata,
    _integer("ver", primary_key=True, autoincrement=False),
    _integer("iat"),
    _integer("nxt"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _text("kid"),
    _text("delegation"),
)

setting = sa.Table("setting", metadata, _text("name", primary_key=True), _text("value"))
