"""Revisions, by number: Alembic reads each file, `events_table.HEAD` is the last."""
