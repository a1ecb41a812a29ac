"""Runs the migrations on the database in $TMPDIR."""

import os

from alembic import context
from sqlalchemy import create_engine

with create_engine(f"sqlite:///{os.environ['TMPDIR']}/notes.db").connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
