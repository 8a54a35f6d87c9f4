"""For the page: sessions, SSH keys that users have it remember, when a lease began.

Revision: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "session",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("proof", sa.JSON, nullable=False),
        sa.Column("opened", sa.Boolean, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_subject"), "session", ["subject"])
    op.create_index(op.f("ix_session_created"), "session", ["created"])
    op.create_table(
        "ssh_key",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", name=op.f("pk_ssh_key")),
    )
    op.add_column("compute", sa.Column("began", sa.Double, nullable=False, server_default="0"))
    with op.batch_alter_table("compute") as compute:
        compute.alter_column("began", server_default=None)
