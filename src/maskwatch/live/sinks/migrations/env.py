"""How Alembic runs the migrations: in the transaction of `events_table.upgrade`."""

from alembic import context

from maskwatch.live.sinks.events_table import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
context.run_migrations()
