"""What the limited network cards carry, as the baits tell.

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("interface") as table:
        table.add_column(sa.Column("flows", sa.JSON, nullable=False, server_default="{}"))
        table.alter_column("flows", existing_type=sa.JSON, server_default=None)
