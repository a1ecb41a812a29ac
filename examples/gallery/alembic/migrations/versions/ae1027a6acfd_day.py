"""Gives each note a day."""

import sqlalchemy as sa
from alembic import op

revision = "ae1027a6acfd"
down_revision = "1975ea83b712"


def upgrade() -> None:
    op.add_column("notes", sa.Column("day", sa.Date))


def downgrade() -> None:
    op.drop_column("notes", "day")
