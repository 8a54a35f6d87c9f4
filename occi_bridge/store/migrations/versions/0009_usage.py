"""What VMs have had of the nodes, which nodes are drained, when waiting leases are to begin.

Revision: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


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
    for table_name, name, type_, first in (
        ("bait", "drained", sa.Text(), ""),
        ("bait", "drained_by", sa.Double(), "0"),
        ("compute", "expected", sa.Double(), "0"),
    ):
        with op.batch_alter_table(table_name) as table:
            table.add_column(sa.Column(name, type_, nullable=False, server_default=first))
            table.alter_column(name, existing_type=type_, server_default=None)
