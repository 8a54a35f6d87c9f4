"""Volumes that are copies of others; what saved images are like.

Revision: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """What is there is no copy, and nobody knows what images were like."""
    kinds = {
        "source": sa.Text(),
        "origin": sa.Text(),
        "consistency": sa.Text(),
        "taken": sa.Double(),
    }
    for column, kind in kinds.items():
        op.add_column("storage", sa.Column(column, kind))
    storage = sa.table("storage", *(sa.column(column) for column in kinds))
    nothing = {"source": "", "origin": "", "consistency": "", "taken": 0.0}
    op.get_bind().execute(sa.update(storage).values(nothing))
    with op.batch_alter_table("storage") as table:
        for column, kind in kinds.items():
            table.alter_column(column, existing_type=kind, nullable=False)
    op.add_column("saved", sa.Column("consistency", sa.Text()))
    op.add_column("saved", sa.Column("stripped", sa.Boolean()))
    saved = sa.table("saved", sa.column("consistency"), sa.column("stripped", sa.Boolean))
    op.get_bind().execute(sa.update(saved).values(consistency="", stripped=False))
    with op.batch_alter_table("saved") as table:
        table.alter_column("consistency", existing_type=sa.Text(), nullable=False)
        table.alter_column("stripped", existing_type=sa.Boolean(), nullable=False)
