"""VMs have root disks of a size, and volumes grow.

Revision: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """What is there keeps the size that it has."""
    for name, column in (("compute", "disk"), ("storage", "has")):
        op.add_column(name, sa.Column(column, sa.Integer()))
    link = op.get_bind()
    compute = sa.table("compute", sa.column("disk"))
    storage = sa.table(
        "storage", sa.column("has"), sa.column("made", sa.Boolean), sa.column("size")
    )
    link.execute(sa.update(compute).values(disk=0))
    made = sa.case((storage.c.made, storage.c.size), else_=0)
    link.execute(sa.update(storage).values(has=made))
    for name, column in (("compute", "disk"), ("storage", "has")):
        with op.batch_alter_table(name) as table:
            table.alter_column(column, existing_type=sa.Integer(), nullable=False)
