"""Alembic's migrations of the events: a revision for each version of the tables, never changed afterwards."""
