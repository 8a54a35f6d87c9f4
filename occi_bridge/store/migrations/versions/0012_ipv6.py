"""Users' networks may have IPv6.

Revision: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """None that is there has."""
    op.add_column("network", sa.Column("subnet6", sa.Text()))
    network = sa.table("network", sa.column("subnet6"))
    op.get_bind().execute(sa.update(network).values(subnet6=""))
    with op.batch_alter_table("network") as table:
        table.alter_column("subnet6", existing_type=sa.Text(), nullable=False)
