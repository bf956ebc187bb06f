"""VAMT's tables, the same on SQLite and PostgreSQL. `migrations` makes them; a test compares the two.

- A machine is one row however often and wherever it was found (V1); `mid` names it outside. What sources said of it is
  JSON in `said`, and so is what it said of itself; `alias`, `address` and `cmid` say by what it is found again.
- `installed` is one product on one machine. It repeats the machine's name and domain, which change seldom, so that a
  filter over 300,000 of them answers in their order without a sort (issue 5). Both tables are narrow: what no filter
  looks at is beside them, in `said` and `shown` (the lease or confirmation that a machine showed).
- `action_row` names its machine by `mid`, not by its number: what was done stays when the machine is removed. So do
  `list_row` and `confirmation`.
- No table holds a product key or a password: `sealed` says where the sealed one is (M8, T28).
- `audit` is only ever added to, and finished: who, what, which rows, with which result (V6).
- Times are integer seconds UTC from the one injected clock. JSON is text.
"""

from __future__ import annotations

import sqlalchemy as sa

from volact import tables
from volact.tables import boolean, integer, number, refers_to, text

REVISION = "0005"
"""The newest script in `migrations`; a test holds it."""

metadata = tables.metadata()


def _of_machine(**options: object) -> sa.Column[int]:
    return sa.Column(
        "machine",
        tables.NUMBER,
        sa.ForeignKey("machine.id", ondelete="CASCADE"),
        nullable=False,
        **options,  # type: ignore[arg-type]  # what a Column takes
    )


# --- whom VAMT is about ---------------------------------------------------------------------------------------

own = sa.Table(
    "own", metadata, integer("id", primary_key=True, autoincrement=False), text("name"), integer("seq")
)
"""VAMT itself, one row: its name, and the number of the list that it wrote last. Locked by who merges machines."""

setting = sa.Table("setting", metadata, text("name", primary_key=True), text("value"))

publisher = sa.Table(
    "publisher",
    metadata,
    text("pub", primary_key=True),
    text("name"),
    boolean("lab"),
    text("root"),
    text("roots"),
    text("url"),
    text("tls"),
    integer("added"),
)

product = sa.Table(
    "product",
    metadata,
    sa.Column("pub", sa.Text, sa.ForeignKey("publisher.pub"), primary_key=True),
    text("prd", primary_key=True),
    integer("ver"),
    text("name"),
    text("edition"),
    text("bundle"),
)

status_list = sa.Table(
    "status_list",
    metadata,
    sa.Column("pub", sa.Text, sa.ForeignKey("publisher.pub"), primary_key=True),
    integer("issued"),
    integer("ver"),
    text("head"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    integer("fetched"),
)

# --- machines ---------------------------------------------------------------------------------------------------

machine = sa.Table(
    "machine",
    metadata,
    number(),
    text("mid", unique=True),
    text("name"),
    text("domain"),
    text("former"),
    text("address"),
    integer("port", nullable=True),
    text("transport"),
    text("platform"),
    text("system"),
    text("identity"),
    sa.Column("virtual", sa.Boolean, nullable=True),
    text("hypervisor"),
    text("host_identity"),
    integer("instances", nullable=True),
    text("found_by"),
    integer("products"),
    integer("first_seen"),
    integer("last_seen"),
    integer("collected", nullable=True),
    integer("tried", nullable=True),
    text("code"),
    text("detail"),
    sa.Index(None, "name", "domain"),
    sa.Index(None, "identity"),
)

said = sa.Table(
    "said",
    metadata,
    _of_machine(primary_key=True, autoincrement=False),
    text("addresses"),
    text("macs"),
    text("host_keys"),
    text("sources"),
    text("report", nullable=True),
    text("notes"),
)

alias = sa.Table(
    "alias",
    metadata,
    text("name", primary_key=True),
    text("domain", primary_key=True),
    _of_machine(index=True),
)

address = sa.Table(
    "address", metadata, text("address", primary_key=True), _of_machine(primary_key=True, index=True)
)

cmid = sa.Table(
    "cmid",
    metadata,
    text("cmid", primary_key=True),
    text("pub", primary_key=True),
    _of_machine(primary_key=True, index=True),
)

installed = sa.Table(
    "installed",
    metadata,
    number(),
    _of_machine(),
    text("pub"),
    text("prd"),
    text("name"),
    text("domain"),
    integer("state"),
    text("cmid"),
    text("channel"),
    text("partial_key"),
    integer("granted", nullable=True),
    integer("expires", nullable=True),
    text("host"),
    text("iid"),
    text("reason"),
    text("proof"),
    integer("collected"),
    sa.UniqueConstraint("machine", "pub", "prd"),
    sa.Index(None, "name", "domain", "prd"),
    sa.Index(None, "state", "name", "domain", "prd"),
    sa.Index(None, "prd", "state", "name", "domain"),
    sa.Index(None, "channel", "state", "name", "domain", "prd"),
    sa.Index(None, "expires", "name"),
    sa.Index(
        "ix_installed_asked",
        "machine",
        *("prd", "state", "channel", "proof", "reason", "partial_key", "expires", "granted", "host"),
    ),
)

shown = sa.Table(
    "shown",
    metadata,
    sa.Column(
        "installed", tables.NUMBER, sa.ForeignKey("installed.id", ondelete="CASCADE"), primary_key=True
    ),
    text("bundle"),
)

grp = sa.Table(
    "grp",
    metadata,
    number(),
    text("name", unique=True),
    text("notes"),
    integer("made"),
    text("small"),  # the name in small letters, as Python has them: what filters compare, on any database
)

member = sa.Table(
    "member",
    metadata,
    sa.Column("grp", tables.NUMBER, sa.ForeignKey("grp.id", ondelete="CASCADE"), primary_key=True),
    _of_machine(primary_key=True, index=True),
)

view = sa.Table(
    "view",
    metadata,
    text("name", primary_key=True),
    text("filter"),
    text("sort"),
    text("owner"),
    integer("made"),
)

# --- keys and how machines are reached ----------------------------------------------------------------------------

key = sa.Table(
    "key",
    metadata,
    number(),
    sa.Column("pub", sa.Text, sa.ForeignKey("publisher.pub"), nullable=False),
    text("prd"),
    text("thumbprint"),
    text("label"),
    text("kind"),
    text("sealed"),
    integer("bought", nullable=True),
    integer("activated", nullable=True),
    integer("remaining", nullable=True),
    integer("as_of", nullable=True),
    text("statement", nullable=True),
    text("blocked"),
    text("notes"),
    text("who"),
    integer("added"),
    sa.UniqueConstraint("pub", "thumbprint"),
)

credential = sa.Table(
    "credential",
    metadata,
    text("grp", primary_key=True),
    text("kind"),
    text("account"),
    text("options"),
    text("sealed"),
    integer("made"),
)
"""As whom the machines of a group are asked; the empty group is all others. See `credentials.Kept`."""

# --- what is done -------------------------------------------------------------------------------------------------

action = sa.Table(
    "action",
    metadata,
    number(),
    text("aid", unique=True),
    text("what"),
    text("options"),
    text("selection"),
    boolean("dry"),
    text("state"),
    text("who"),
    integer("at"),
    integer("ended", nullable=True),
    sa.Index(None, "state"),
)

action_row = sa.Table(
    "action_row",
    metadata,
    number(),
    refers_to("action", "action.id"),
    text("mid"),
    text("machine"),
    text("pub"),
    text("prd"),
    text("state"),
    text("code"),
    text("detail"),
    integer("tries"),
    integer("at", nullable=True),
    text("key"),
    integer("due", nullable=True),
    integer("until", nullable=True),
    sa.UniqueConstraint("action", "mid", "pub", "prd"),
    sa.Index(None, "state", "action"),
    sa.Index(None, "state", "due"),
    sa.Index(None, "mid"),
)
"""What is done to one product on one machine; see `actionrecords.Row`."""

schedule = sa.Table(
    "schedule",
    metadata,
    number(),
    text("name", unique=True),
    text("what"),
    text("selection"),
    text("options"),
    integer("every"),
    integer("next"),
    integer("last", nullable=True),
    text("result"),
    text("who"),
    boolean("enabled"),
)

# --- computer lists (P) -------------------------------------------------------------------------------------------

computer_list = sa.Table(
    "computer_list",
    metadata,
    number(),
    text("lid", unique=True),
    text("pub"),
    text("direction"),
    text("mode"),
    integer("seq"),
    text("writer"),
    text("ref", nullable=True),
    text("digest"),
    integer("rows"),
    integer("at"),
    text("who"),
)

list_row = sa.Table(
    "list_row",
    metadata,
    number(),
    refers_to("list", "computer_list.id"),
    text("row"),
    text("mid"),
    text("prd"),
    text("op"),
    text("jti", nullable=True),
    text("key"),
    text("request", nullable=True),
    text("state"),
    text("code"),
    text("answer", nullable=True),
    integer("at", nullable=True),
    text("who"),
    sa.UniqueConstraint("list", "row"),
    sa.Index(None, "jti"),
    sa.Index(None, "mid"),
)

writer = sa.Table(
    "writer", metadata, text("fp", primary_key=True), text("name"), boolean("trusted"), integer("met")
)

confirmation = sa.Table(
    "confirmation",
    metadata,
    number(),
    text("pub"),
    text("prd"),
    text("key"),
    text("cmid"),
    text("act"),
    text("fp"),
    text("bundle"),
    text("mid"),
    integer("granted"),
    integer("kept"),
    sa.UniqueConstraint("pub", "prd", "act", "cmid"),
    sa.Index(None, "mid"),
)

# --- people (V6) --------------------------------------------------------------------------------------------------

person = sa.Table(
    "person",
    metadata,
    text("name", primary_key=True),
    text("role"),
    text("password", nullable=True),
    integer("made"),
)

token = sa.Table(
    "token",
    metadata,
    text("digest", primary_key=True),
    sa.Column(
        "person", sa.Text, sa.ForeignKey("person.name", ondelete="CASCADE"), nullable=False, index=True
    ),
    text("label"),
    integer("made"),
    integer("used", nullable=True),
    integer("expires", nullable=True),
)

answered = sa.Table(
    "answered",
    metadata,
    text("token", primary_key=True),
    text("name", primary_key=True),
    text("request"),
    integer("status", nullable=True),
    text("headers"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    integer("at", index=True),
)
"""What was answered to requests with an ``Idempotency-Key`` (`name`), by the digest of the token that sent them."""

audit = sa.Table(
    "audit",
    metadata,
    number(),
    integer("at"),
    text("who"),
    text("role"),
    text("action"),
    text("what"),
    integer("rows", nullable=True),
    text("result"),
    text("detail"),
)
