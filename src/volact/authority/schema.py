"""The authority's tables, the same on SQLite and PostgreSQL. `migrations` makes them; a test compares the two.

- Truth is rows. `product_key.used` is a counter beside the rows of `activation` (of `host`, for a host key) and
  moves only in the transaction that writes them, by one UPDATE that cannot pass `bought`.
- A product key is here by its public half alone; nothing here helps to find its secret.
- Times are integer seconds UTC from the one injected clock.
"""

from __future__ import annotations

import sqlalchemy as sa

from volact import tables
from volact.tables import boolean, integer, number, refers_to, text

REVISION = "0002"
"""The newest script in `migrations`; a test holds it."""

metadata = tables.metadata()

publisher = sa.Table(
    "publisher",
    metadata,
    text("pub", primary_key=True),
    text("name"),
    text("url"),
    boolean("lab"),
    integer("created"),
)

root_document = sa.Table(
    "root_document",
    metadata,
    integer("ver", primary_key=True, autoincrement=False),
    text("token"),
    text("x"),
    text("y"),
)

# Every delegation ever signed is kept: a kept answer travels with the one that was in force at its iat.
# `token` is there where the signing key may be away (the root's); others are signed again from their payload.
delegation = sa.Table(
    "delegation",
    metadata,
    text("jti", primary_key=True),
    text("signer"),
    text("sub"),
    text("rol"),
    integer("iat"),
    integer("exp"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("token", sa.Text),
)

product = sa.Table("product", metadata, number(), text("prd", unique=True), integer("ver"))

product_version = sa.Table(
    "product_version",
    metadata,
    refers_to("product", "product.id", primary_key=True),
    integer("ver", primary_key=True, autoincrement=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    text("kid"),
    text("delegation"),
)

customer = sa.Table(
    "customer",
    metadata,
    number(),
    text("name", unique=True),
    text("cus", unique=True),
    integer("created"),
)

product_key = sa.Table(
    "product_key",
    metadata,
    number(),
    text("thumbprint", unique=True),
    text("x"),
    text("y"),
    text("kind"),
    text("label", unique=True),
    refers_to("product", "product.id"),
    refers_to("customer", "customer.id"),
    integer("bought"),
    integer("used"),
    text("blocked"),
    integer("blocked_since"),
    boolean("machines_bound"),
    boolean("networks_bound"),
    integer("host_machines"),
    integer("created"),
)

# A host key may name several products; the first is `product_key.product`, all of them are here.
key_product = sa.Table(
    "key_product",
    metadata,
    refers_to("key", "product_key.id", primary_key=True),
    refers_to("product", "product.id", primary_key=True),
)
key_machine = sa.Table(
    "key_machine",
    metadata,
    refers_to("key", "product_key.id", primary_key=True),
    text("cmid", primary_key=True),
)
key_network = sa.Table(
    "key_network",
    metadata,
    refers_to("key", "product_key.id", primary_key=True),
    text("network", primary_key=True),
)

_IS_LISTED = sa.text("blocked != ''")

# `act` begins with its time, so that its index grows at one end. `blocked` is what the status list says of it: "",
# "all", or "returned", and then nobody holds it: its `cmid` is a placeholder, the machine's is in `returned`. `fp` is the JSON of the last granted vector,
# find_* are its search tokens (protocol.machine.search_tokens) by kind.
activation = sa.Table(
    "activation",
    metadata,
    text("act", primary_key=True),
    refers_to("key", "product_key.id"),
    text("cmid"),
    text("fp"),
    sa.Column("find_uuid", sa.Text),
    sa.Column("find_board", sa.Text),
    sa.Column("find_disk", sa.Text),
    sa.Column("find_net", sa.Text),
    integer("created"),
    integer("granted"),
    text("blocked"),
    integer("blocked_since"),
    sa.UniqueConstraint("key", "cmid"),
    sa.Index(None, "find_uuid"),
    # With the UUID beside it: who has one is looked up by it, and among rows without one by the rest. A board's
    # hash has 16 bits, so a million rows share each value some 15 times; those must not all be fetched.
    sa.Index(None, "find_board", "find_uuid"),
    sa.Index(None, "find_disk", "find_uuid"),
    sa.Index(None, "find_net", "find_uuid"),
    # Of the few that a status list names, so that writing one does not look at a million.
    sa.Index(None, "blocked", sqlite_where=_IS_LISTED, postgresql_where=_IS_LISTED),
)

# Each time an activation went to rebuilt (``taken over``) or changed (``moved``) hardware.
change = sa.Table(
    "change",
    metadata,
    number(),
    sa.Column("act", sa.Text, sa.ForeignKey("activation.act"), nullable=False, index=True),
    integer("at"),
    text("how"),
    text("cmid_before", index=True),
)

# What was given back (M6). `frees` is when its seat, which `product_key.used` still counts, is free; null when it is.
returned = sa.Table(
    "returned",
    metadata,
    sa.Column("act", sa.Text, sa.ForeignKey("activation.act"), primary_key=True),
    refers_to("key", "product_key.id"),
    text("cmid", index=True),
    integer("at"),
    sa.Column("frees", sa.BigInteger),
    sa.Index(None, "key", "at"),
    sa.Index(None, "key", "frees"),
)

# What was asked and what is answered, written before it is signed. `act` is that of an activation or a host, and
# comes first in the key: it begins with its time, so the index of a million grows at one end and not everywhere.
answer = sa.Table(
    "answer",
    metadata,
    text("act", primary_key=True),
    text("req", primary_key=True),
    text("digest"),
    text("name"),
    refers_to("key", "product_key.id"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    text("kid"),
    text("delegation"),
)

host = sa.Table(
    "host",
    metadata,
    text("act", primary_key=True),
    refers_to("key", "product_key.id"),
    text("host"),
    integer("activations"),
    integer("created"),
    integer("granted"),
    integer("expires"),
    text("blocked"),
    integer("blocked_since"),
    sa.UniqueConstraint("key", "host"),
)

usage = sa.Table(
    "usage",
    metadata,
    text("jti", primary_key=True),
    text("host"),
    text("ref"),
    integer("received"),
    text("token"),
)

source = sa.Table(
    "source",
    metadata,
    refers_to("key", "product_key.id", primary_key=True),
    text("network", primary_key=True),
    integer("first_seen"),
)

event = sa.Table(
    "event",
    metadata,
    number(),
    integer("at"),
    text("name"),
    sa.Column("key", tables.NUMBER, sa.ForeignKey("product_key.id")),
    text("detail"),
)

status_list = sa.Table(
    "status_list",
    metadata,
    integer("ver", primary_key=True, autoincrement=False),
    integer("iat"),
    integer("nxt"),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    text("kid"),
    text("delegation"),
)

setting = sa.Table("setting", metadata, text("name", primary_key=True), text("value"))
