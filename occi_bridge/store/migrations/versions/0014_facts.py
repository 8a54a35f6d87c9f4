"""What of each node is free, and when its bait's sources answered last, for people to see.

Revision: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """It fills by itself, as the baits answer."""
    for name in ("room", "sources"):
        with op.batch_alter_table("bait") as table:
            table.add_column(sa.Column(name, sa.JSON, nullable=False, server_default="{}"))
            table.alter_column(name, existing_type=sa.JSON, server_default=None)
