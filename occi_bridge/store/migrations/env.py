"""Alembic's entry: run the steps in the transaction that occi_bridge/store/migrate.py has begun."""

from alembic import context

from occi_bridge.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite can't change a table in place
)
context.run_migrations()
