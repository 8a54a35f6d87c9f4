"""What the limited network cards carry, as the baits tell.

Revision: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("interface") as table:
        table.add_column(sa.Column("flows", sa.JSON, nullable=False, server_default="{}"))
        table.alter_column("flows", existing_type=sa.JSON, server_default=None)
