"""What VMs have had of the nodes, as the baits account it; and which nodes are drained.

Revision: 0009
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"


def upgrade() -> None:
    """It fills by itself: the baits have what was before."""
    op.create_table(
        "usage",
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("began", sa.Double(), nullable=False),
        sa.Column("wall", sa.Double(), nullable=False),
        sa.Column("held", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("node", "number", name="pk_usage"),
    )
    op.create_index("ix_usage_owner", "usage", ["owner"])
    with op.batch_alter_table("bait") as table:
        table.add_column(sa.Column("drained", sa.Text(), nullable=False, server_default=""))
        table.add_column(sa.Column("drained_by", sa.Double(), nullable=False, server_default="0"))
        for name, type_ in (("drained", sa.Text()), ("drained_by", sa.Double())):
            table.alter_column(name, existing_type=type_, server_default=None)
