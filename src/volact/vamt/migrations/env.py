"""Alembic's entry: runs the scripts on the connection that `volact.db.migrate` opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
context.run_migrations()
