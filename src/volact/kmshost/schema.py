"""The KMS host's tables, the same on SQLite and PostgreSQL. `migrations` makes them; a test compares the two.

- A record is one machine for one product: UNIQUE(cmid, prd). It counts while now < `expires` (K4); after that it is
  as if it were not there, whether or not it was deleted yet.
- No index on a time: it would halve the rate of renewals at a million records (DESIGN section 4). The one on group
  and edition, which a renewal does not touch, bounds the question for a few servers, or a small group, among many.
- `payload` is the last lease as it was recorded before it was signed; file keys sign it to the same bytes again.
- Several hosts may share the database: what is a single host's own (delegation, setting, published) names it.
- `clone` has a row for each hardware on which an image's identity turned up a second time.
- `placed` says in which group, and whether as servers, a product's records stand; its document may have changed.
- Times are integer seconds UTC from the one injected clock.
"""

from __future__ import annotations

import sqlalchemy as sa

from volact import tables
from volact.tables import boolean, integer, number, text

REVISION = "0003"
"""The newest script in `migrations`; a test holds it."""

metadata = tables.metadata()

publisher = sa.Table(
    "publisher",
    metadata,
    integer("id", primary_key=True, autoincrement=False),
    text("pub"),
    boolean("lab"),
    text("root", nullable=True),
    text("roots"),
    sa.Column("nonce_key", sa.LargeBinary, nullable=False),
)

product = sa.Table(
    "product",
    metadata,
    text("prd", primary_key=True),
    integer("ver"),
    text("edition"),
    text("name"),
    text("bundle"),
)

delegation = sa.Table(
    "delegation",
    metadata,
    text("jti", primary_key=True),
    text("host"),
    integer("iat"),
    integer("exp"),
    text("bundle"),
    integer("received"),
)

setting = sa.Table(
    "setting",
    metadata,
    text("host"),
    text("name"),
    text("value"),
    # Not the convention's name: the table of one host's settings before it had that.
    sa.PrimaryKeyConstraint("host", "name", name="pk_setting_host"),
)

record = sa.Table(
    "record",
    metadata,
    number(),
    text("cmid"),
    text("prd"),
    text("grp"),
    boolean("server"),
    integer("first"),
    integer("last"),
    integer("expires"),
    text("fp"),
    text("before", nullable=True),
    integer("state"),
    integer("minutes"),
    boolean("virtual"),
    text("name", nullable=True),
    text("address"),
    text("outcome"),
    text("req", nullable=True),
    text("digest", nullable=True),
    sa.Column("payload", sa.LargeBinary, nullable=True),
    text("kid", nullable=True),
    text("delegation", nullable=True),
    text("lease", nullable=True),
    integer("lease_end", nullable=True),
    integer("renewals"),
    sa.UniqueConstraint("cmid", "prd"),
    sa.Index(None, "grp", "server"),
)

event = sa.Table(
    "event",
    metadata,
    number(),
    integer("time"),
    integer("event"),
    text("result"),
    text("product", nullable=True),
    text("cmid", nullable=True),
    text("host", nullable=True),
    integer("required", nullable=True),
    integer("current", nullable=True),
    integer("client_time", nullable=True),
    sa.Column("virtual", sa.Boolean, nullable=True),
    integer("state", nullable=True),
    integer("minutes", nullable=True),
    integer("renewal", nullable=True),
    integer("retry", nullable=True),
)

tally = sa.Table(
    "tally",
    metadata,
    text("outcome", primary_key=True),
    integer("state", primary_key=True, autoincrement=False),
    integer("n"),
)

peak = sa.Table("peak", metadata, text("prd", primary_key=True), integer("n"))

placed = sa.Table(
    "placed", metadata, text("prd", primary_key=True), text("grp"), boolean("server"), boolean("strong")
)

trusted = sa.Table(
    "trusted",
    metadata,
    integer("id", primary_key=True, autoincrement=False),
    integer("now"),
    integer("rested"),
)

published = sa.Table(
    "published",
    metadata,
    text("host", primary_key=True),
    text("domain", primary_key=True),
    text("label"),
    text("target"),
    integer("port"),
    integer("priority"),
    integer("weight"),
    text("addresses"),
    integer("time"),
)

clone = sa.Table(
    "clone",
    metadata,
    number(),
    text("cmid"),
    text("prd"),
    text("fp"),
    text("address"),
    text("name", nullable=True),
    integer("first"),
    integer("last"),
    integer("n"),
    sa.UniqueConstraint("cmid", "prd", "fp"),
)

enrolled = sa.Table("enrolled", metadata, text("cmid", primary_key=True), integer("added"))

status_list = sa.Table(
    "status_list",
    metadata,
    integer("id", primary_key=True, autoincrement=False),
    integer("issued"),
    integer("ver"),
    text("head"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    integer("fetched"),
)
