"""The table of events, as the first event files had it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the table and its indexes."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "events",
        sa.Column("seq", number, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("time_ms", number, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("track", number),
        sa.Column("state", sa.Text),
        sa.Column("zone", sa.Text),
        sa.Column("record", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_time", "events", ["time_ms"])
    op.create_index("events_kind", "events", ["kind", "time_ms"])
    op.create_index("events_source", "events", ["source", "time_ms"])
