"""Each network that a user made has a number, under which it spans nodes.

Revision: 0003
Revises: 0002
"""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
_FIRST = 1 << 23  # of as many


def upgrade() -> None:
    """Those that are there get numbers, too."""
    op.add_column("network", sa.Column("vni", sa.Integer()))
    network = sa.table("network", sa.column("uid", sa.String), sa.column("vni", sa.Integer))
    link = op.get_bind()
    given: set[int] = set()
    for uid in link.execute(sa.select(network.c.uid)).scalars().all():
        vni = _FIRST + secrets.randbelow(_FIRST)
        while vni in given:
            vni = _FIRST + secrets.randbelow(_FIRST)
        given.add(vni)
        link.execute(sa.update(network).where(network.c.uid == uid).values(vni=vni))
    with op.batch_alter_table("network") as table:
        table.alter_column("vni", existing_type=sa.Integer(), nullable=False)
        table.create_unique_constraint(op.f("uq_network_vni"), ["vni"])
