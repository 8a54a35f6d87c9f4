"""Volumes that a node keeps for itself.

Revision: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """What is there, all nodes have."""
    op.add_column("storage", sa.Column("node", sa.Text()))
    storage = sa.table("storage", sa.column("node"))
    op.get_bind().execute(sa.update(storage).values(node=""))
    with op.batch_alter_table("storage") as table:
        table.alter_column("node", existing_type=sa.Text(), nullable=False)
