"""The KMS host's tables, the same on SQLite and PostgreSQL. `migrations` makes them; a test compares the two.

- A record is one machine for one product: UNIQUE(cmid, prd). It counts while now < `expires` (K4); after that it is
  as if it were not there, whether or not it was deleted yet.
- No index on a time: it would halve the rate of renewals at a million records (DESIGN section 4). The one on group
  and edition, which a renewal does not touch, bounds the question for a few servers, or a small group, among many.
- `payload` is the last lease as it was recorded before it was signed; file keys sign it to the same bytes again.
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


def _number() -> sa.Column[int]:
    return sa.Column("id", _NUMBER, primary_key=True)


def _text(name: str, **options: object) -> sa.Column[str]:
    return sa.Column(name, sa.Text, **{"nullable": False, **options})  # type: ignore[arg-type]


def _integer(name: str, **options: object) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, **{"nullable": False, **options})  # type: ignore[arg-type]


def _bool(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


publisher = sa.Table(
    "publisher",
    metadata,
    _integer("id", primary_key=True, autoincrement=False),
    _text("pub"),
    _bool("lab"),
    _text("root", nullable=True),
    _text("roots"),
    sa.Column("nonce_key", sa.LargeBinary, nullable=False),
)

product = sa.Table(
    "product",
    metadata,
    _text("prd", primary_key=True),
    _integer("ver"),
    _text("edition"),
    _text("name"),
    _text("bundle"),
)

delegation = sa.Table(
    "delegation",
    metadata,
    _text("jti", primary_key=True),
    _text("host"),
    _integer("iat"),
    _integer("exp"),
    _text("bundle"),
    _integer("received"),
)

setting = sa.Table("setting", metadata, _text("name", primary_key=True), _text("value"))

record = sa.Table(
    "record",
    metadata,
    _number(),
    _text("cmid"),
    _text("prd"),
    _text("grp"),
    _bool("server"),
    _integer("first"),
    _integer("last"),
    _integer("expires"),
    _text("fp"),
    _text("before", nullable=True),
    _integer("state"),
    _integer("minutes"),
    _bool("virtual"),
    _text("name", nullable=True),
    _text("address"),
    _text("outcome"),
    _text("req", nullable=True),
    _text("digest", nullable=True),
    sa.Column("payload", sa.LargeBinary, nullable=True),
    _text("kid", nullable=True),
    _text("delegation", nullable=True),
    _text("lease", nullable=True),
    _integer("lease_end", nullable=True),
    _integer("renewals"),
    sa.UniqueConstraint("cmid", "prd"),
    sa.Index(None, "grp", "server"),
)

event = sa.Table(
    "event",
    metadata,
    _number(),
    _integer("time"),
    _integer("event"),
    _text("result"),
    _text("product", nullable=True),
    _text("cmid", nullable=True),
    _text("host", nullable=True),
    _integer("required", nullable=True),
    _integer("current", nullable=True),
    _integer("client_time", nullable=True),
    sa.Column("virtual", sa.Boolean, nullable=True),
    _integer("state", nullable=True),
    _integer("minutes", nullable=True),
    _integer("renewal", nullable=True),
    _integer("retry", nullable=True),
)

tally = sa.Table(
    "tally",
    metadata,
    _text("outcome", primary_key=True),
    _integer("state", primary_key=True, autoincrement=False),
    _integer("n"),
)

peak = sa.Table("peak", metadata, _text("prd", primary_key=True), _integer("n"))
