"""keys, sessions, the audit log, and the tally of jobs"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


NUMBER = "INSERT INTO job_tally (state, job_type, priority, number) "
NUMBER += "VALUES ({0}.state, {0}.job_type, ({0}.priority > 0) - ({0}.priority < 0), {1}) "
NUMBER += "ON CONFLICT (state, job_type, priority) DO UPDATE SET number = number + {1}; "
TRIGGERS = {
    "job_tally_insert": "AFTER INSERT ON jobs BEGIN " + NUMBER.format("new", 1) + "END",
    "job_tally_delete": "AFTER DELETE ON jobs BEGIN " + NUMBER.format("old", -1) + "END",
    "job_tally_state": "AFTER UPDATE OF state ON jobs WHEN old.state <> new.state BEGIN "
    + NUMBER.format("old", -1)
    + NUMBER.format("new", 1)
    + "END",
}


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("hint", sa.String(), nullable=False),
        sa.Column("key_hash", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.Column("last_used_at", sa.Float(), nullable=True),
        sa.Column("last_used_from", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_keys_key_hash")),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("caller_kind", sa.String(), nullable=False),
        sa.Column("caller_id", sa.String(), nullable=False),
        sa.Column("caller_name", sa.String(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("row", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_caller_id"), ["caller_id"], unique=False)

    op.create_table(
        "job_tally",
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("job_type", sa.String(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("state", "job_type", "priority", name=op.f("pk_job_tally")),
    )
    op.create_table(
        "sessions",
        sa.Column("token_hash", sa.String(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_sessions")),
    )
    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sessions_key_id"), ["key_id"], unique=False)

    with op.batch_alter_table("enrolment_tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("node_id", sa.String(), nullable=True))

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index("ix_jobs_finished_at", ["finished_at"], unique=False, sqlite_where=sa.text("finished_at IS NOT NULL"))
        batch_op.create_index("ix_jobs_seq", ["seq"], unique=False)
        batch_op.create_index("ix_jobs_state_type_seq", ["state", "job_type", "seq"], unique=False)

    op.execute(
        "INSERT INTO job_tally (state, job_type, priority, number) "
        "SELECT state, job_type, (priority > 0) - (priority < 0), count(*) FROM jobs GROUP BY 1, 2, 3"
    )
    for name, what in TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {what}")


def downgrade() -> None:
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER {name}")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_state_type_seq")
        batch_op.drop_index("ix_jobs_seq")
        batch_op.drop_index("ix_jobs_finished_at", sqlite_where=sa.text("finished_at IS NOT NULL"))

    with op.batch_alter_table("enrolment_tokens", schema=None) as batch_op:
        batch_op.drop_column("node_id")

    with op.batch_alter_table("sessions", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_sessions_key_id"))

    op.drop_table("sessions")
    op.drop_table("job_tally")
    with op.batch_alter_table("audit", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_audit_caller_id"))
        batch_op.drop_index(batch_op.f("ix_audit_at"))

    op.drop_table("audit")
    op.drop_table("api_keys")
