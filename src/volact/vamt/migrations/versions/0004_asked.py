"""An index with all that filters ask of products, so that 300,000 are looked through without reading the table (issue 5)."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the index."""
    op.create_index(
        "ix_installed_asked",
        "installed",
        [
            "machine",
            "prd",
            "state",
            "channel",
            "proof",
            "reason",
            "partial_key",
            "expires",
            "granted",
            "host",
        ],
        unique=False,
    )
