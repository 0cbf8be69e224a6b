"""the swarm, clusters"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clusters",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("cluster_type", sa.String(), nullable=False),
        sa.Column("manager_node_id", sa.String(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clusters")),
        sa.UniqueConstraint("name", name=op.f("uq_clusters_name")),
    )
    op.create_table(
        "swarms",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("managers", sa.JSON(), nullable=False),
        sa.Column("known_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_swarms")),
    )


def downgrade() -> None:
    op.drop_table("swarms")
    op.drop_table("clusters")
