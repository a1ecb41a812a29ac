"""Makes the table of notes."""

import sqlalchemy as sa
from alembic import op

revision = "1975ea83b712"
down_revision = None


def upgrade() -> None:
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text))


def downgrade() -> None:
    op.drop_table("notes")
