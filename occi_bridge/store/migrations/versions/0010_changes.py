"""Changes are counted in parts, so that who writes waits for nobody else who writes.

Revision: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """A bridge of an earlier release that still runs finds no count, and believes nothing kept."""
    made = op.create_table(
        "changes",
        sa.Column("part", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("part", name="pk_changes"),
    )
    op.bulk_insert(made, [{"part": part, "number": 0} for part in range(32)])
    op.drop_table("revision")
