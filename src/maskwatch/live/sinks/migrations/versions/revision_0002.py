"""The position in a video."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("events", sa.Column("time_s", sa.Double().with_variant(sa.REAL(), "sqlite")))
