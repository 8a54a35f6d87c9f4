"""Addresses of the site's rest before they are given out again.

Revision: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """What was given back before is free."""
    op.create_table(
        "returned",
        sa.Column("network", sa.String(63), nullable=False),
        sa.Column("address", sa.String(18), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("network", "address", name="pk_returned"),
    )
