"""The tables of the first release.

Revision: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables, and the rows that are always there."""
    op.create_table(
        "bait",
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column("silent", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_bait")),
    )
    op.create_table(
        "entity",
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=True),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("shared", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("mixins", sa.JSON(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_entity")),
        sa.UniqueConstraint("id", name=op.f("uq_entity_id")),
    )
    op.create_index(op.f("ix_entity_owner"), "entity", ["owner"], unique=False)
    op.create_index(op.f("ix_entity_shared"), "entity", ["shared"], unique=False)
    op.create_table(
        "leader",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leader")),
    )
    op.create_table(
        "mixin",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("scheme", sa.Text(), nullable=False),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "scheme", "term", name=op.f("pk_mixin")),
        sa.UniqueConstraint("owner", "location", name=op.f("uq_mixin_owner")),
    )
    op.create_table(
        "revision",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_revision")),
    )
    op.create_table(
        "saved",
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("shared", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("again", sa.Double(), nullable=False),
        sa.Column("acted", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tag", name=op.f("pk_saved")),
    )
    op.create_index(op.f("ix_saved_owner"), "saved", ["owner"], unique=False)
    op.create_table(
        "compute",
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("fqan", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("lrms_account", sa.Text(), nullable=False),
        sa.Column("partition", sa.Text(), nullable=False),
        sa.Column("walltime", sa.Integer(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("saved", sa.Boolean(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("memory", sa.Integer(), nullable=False),
        sa.Column("user_data", sa.Text(), nullable=False),
        sa.Column("desired", sa.String(length=16), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("restart", sa.Text(), nullable=False),
        sa.Column("wish", sa.Integer(), nullable=False),
        sa.Column("lease", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("lease_state", sa.Text(), nullable=False),
        sa.Column("lease_at", sa.Double(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("fault", sa.Boolean(), nullable=False),
        sa.Column("ran", sa.Boolean(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("again", sa.Double(), nullable=False),
        sa.Column("acted", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "desired IN ('active', 'inactive', 'suspended')", name=op.f("ck_compute_desired")
        ),
        sa.ForeignKeyConstraint(
            ["uid"], ["entity.uid"], name=op.f("fk_compute_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_compute")),
    )
    op.create_table(
        "network",
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("subnet", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("up", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["uid"], ["entity.uid"], name=op.f("fk_network_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_network")),
        sa.UniqueConstraint("name", name=op.f("uq_network_name")),
    )
    op.create_table(
        "storage",
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("made", sa.Boolean(), nullable=False),
        sa.Column("online", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("again", sa.Double(), nullable=False),
        sa.Column("acted", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["uid"], ["entity.uid"], name=op.f("fk_storage_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_storage")),
    )
    op.create_table(
        "attachment",
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("compute", sa.String(length=36), nullable=False),
        sa.Column("storage", sa.String(length=36), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("attached", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("again", sa.Double(), nullable=False),
        sa.Column("acted", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["compute"], ["compute.uid"], name=op.f("fk_attachment_compute")),
        sa.ForeignKeyConstraint(["storage"], ["storage.uid"], name=op.f("fk_attachment_storage")),
        sa.ForeignKeyConstraint(
            ["uid"], ["entity.uid"], name=op.f("fk_attachment_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_attachment")),
    )
    op.create_index(op.f("ix_attachment_compute"), "attachment", ["compute"], unique=False)
    op.create_index(op.f("ix_attachment_storage"), "attachment", ["storage"], unique=False)
    op.create_table(
        "interface",
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("compute", sa.String(length=36), nullable=False),
        sa.Column("network", sa.Text(), nullable=False),
        sa.Column("owned", sa.String(length=36), nullable=True),
        sa.Column("mac", sa.String(length=17), nullable=False),
        sa.Column("assigned", sa.String(length=18), nullable=True),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("seen_mac", sa.Text(), nullable=False),
        sa.Column("attached", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("again", sa.Double(), nullable=False),
        sa.Column("acted", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["compute"], ["compute.uid"], name=op.f("fk_interface_compute")),
        sa.ForeignKeyConstraint(["owned"], ["network.uid"], name=op.f("fk_interface_owned")),
        sa.ForeignKeyConstraint(
            ["uid"], ["entity.uid"], name=op.f("fk_interface_uid"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_interface")),
        sa.UniqueConstraint("mac", name=op.f("uq_interface_mac")),
        sa.UniqueConstraint("network", "assigned", name=op.f("uq_interface_network")),
    )
    op.create_index(op.f("ix_interface_compute"), "interface", ["compute"], unique=False)
    op.create_index(op.f("ix_interface_owned"), "interface", ["owned"], unique=False)
    op.execute("INSERT INTO leader (name, holder, until) VALUES ('driver', '', 0)")
    op.execute("INSERT INTO revision (name, number) VALUES ('all', 1)")
