"""operations, vault, host keys"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credentials",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("username", sa.String(), nullable=False),
        sa.Column("kinds", sa.String(), nullable=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("name", name=op.f("uq_credentials_name")),
    )
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credentials_key_id"), ["key_id"], unique=False)

    op.create_table(
        "host_keys",
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("keys", sa.JSON(), nullable=False),
        sa.Column("fingerprint", sa.String(), nullable=False),
        sa.Column("pinned_at", sa.Float(), nullable=False),
        sa.Column("pinned_by", sa.String(), nullable=False),
        sa.Column("changed_keys", sa.JSON(), nullable=False),
        sa.Column("changed_fingerprint", sa.String(), nullable=True),
        sa.Column("changed_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("address", "port", name=op.f("pk_host_keys")),
    )
    op.create_table(
        "node_locks",
        sa.Column("node_id", sa.String(), nullable=False),
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("node_id", name=op.f("pk_node_locks")),
    )
    with op.batch_alter_table("node_locks", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_node_locks_operation_id"), ["operation_id"], unique=False)

    op.create_table(
        "operation_events",
        sa.Column("operation_id", sa.String(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("node_id", sa.String(), nullable=True),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("operation_id", "seq", name=op.f("pk_operation_events")),
    )
    op.create_table(
        "operations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("checking", sa.Boolean(), nullable=False),
        sa.Column("node_ids", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("step", sa.String(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("retry_of", sa.String(), nullable=True),
        sa.Column("parent_id", sa.String(), nullable=True),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("dismissed", sa.Boolean(), nullable=False),
        sa.Column("last_event", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("ended_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operations")),
    )
    with op.batch_alter_table("operations", schema=None) as batch_op:
        batch_op.create_index("ix_operations_created_at", ["created_at"], unique=False)
        batch_op.create_index("ix_operations_kind_created", ["kind", "created_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_operations_retry_of"), ["retry_of"], unique=False)
        batch_op.create_index(batch_op.f("ix_operations_parent_id"), ["parent_id"], unique=False)
        batch_op.create_index("ix_operations_state_created", ["state", "created_at"], unique=False)

    op.create_table(
        "scheduled_runs",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_run", sa.Float(), nullable=True),
        sa.Column("next_run", sa.Float(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_scheduled_runs")),
    )
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("state", sa.String(), server_default="managed", nullable=False))
        batch_op.add_column(sa.Column("state_reason", sa.String(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("ssh_port", sa.Integer(), server_default="22", nullable=False))
        batch_op.add_column(sa.Column("credential_id", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_nodes_credential_id"), ["credential_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("nodes", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_nodes_credential_id"))
        batch_op.drop_column("credential_id")
        batch_op.drop_column("ssh_port")
        batch_op.drop_column("state_reason")
        batch_op.drop_column("state")

    op.drop_table("scheduled_runs")
    with op.batch_alter_table("operations", schema=None) as batch_op:
        batch_op.drop_index("ix_operations_state_created")
        batch_op.drop_index(batch_op.f("ix_operations_retry_of"))
        batch_op.drop_index(batch_op.f("ix_operations_parent_id"))
        batch_op.drop_index("ix_operations_kind_created")
        batch_op.drop_index("ix_operations_created_at")

    op.drop_table("operations")
    op.drop_table("operation_events")
    with op.batch_alter_table("node_locks", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_node_locks_operation_id"))

    op.drop_table("node_locks")
    op.drop_table("host_keys")
    with op.batch_alter_table("credentials", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_credentials_key_id"))

    op.drop_table("credentials")
