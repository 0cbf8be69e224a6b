"""scheduling: pinned jobs, callers, back-off, and why an attempt went to its node"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("target_node", sa.String(), nullable=True))
    op.add_column("jobs", sa.Column("caller", sa.String(), server_default="", nullable=False))
    op.add_column("jobs", sa.Column("not_before", sa.Float(), nullable=True))
    op.add_column("job_attempts", sa.Column("reason", sa.String(), nullable=True))
    op.add_column("job_attempts", sa.Column("load_seconds", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("job_attempts", "load_seconds")
    op.drop_column("job_attempts", "reason")
    op.drop_column("jobs", "not_before")
    op.drop_column("jobs", "caller")
    op.drop_column("jobs", "target_node")
