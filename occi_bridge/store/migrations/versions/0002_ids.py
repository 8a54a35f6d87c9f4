"""An id is unique among its owner's, no more among all users'.

Revision: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """SQLite copies the table for that: see store/migrate.py for what refers to it."""
    with op.batch_alter_table("entity") as entity:
        entity.drop_constraint(op.f("uq_entity_id"), type_="unique")
        entity.create_unique_constraint(op.f("uq_entity_owner"), ["owner", "id"])
