"""outputs: where their files are, the bin, stars, and words to search"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_outputs_key": ["key"],
    "ix_outputs_place": ["local", "synced_at", "bytes"],
    "ix_outputs_deleted_at": ["deleted_at"],
    "ix_outputs_model": ["model", "deleted_at"],
    "ix_outputs_lora": ["lora", "deleted_at"],
    "ix_outputs_node_id": ["node_id", "deleted_at"],
    "ix_outputs_starred": ["starred", "deleted_at"],
    "ix_outputs_created_at": ["created_at", "deleted_at"],
}


def upgrade() -> None:
    op.add_column("outputs", sa.Column("key", sa.String(), server_default="", nullable=False))
    op.add_column("outputs", sa.Column("lora", sa.String(), server_default="", nullable=False))
    op.add_column("outputs", sa.Column("seconds", sa.Float(), nullable=True))
    op.add_column("outputs", sa.Column("starred", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("outputs", sa.Column("local", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("outputs", sa.Column("synced_at", sa.Float(), nullable=True))
    op.add_column("outputs", sa.Column("deleted_at", sa.Float(), nullable=True))
    op.execute("UPDATE outputs SET key = filename, lora = coalesce(json_extract(parameters, '$.lora'), ''), "
               "seconds = json_extract(parameters, '$.generation_time')")  # fmt: skip
    for name, columns in INDEXES.items():
        op.create_index(name, "outputs", columns, unique=name == "ix_outputs_key")
    op.execute("CREATE VIRTUAL TABLE output_words USING fts5(prompt, tokenize = 'unicode61 remove_diacritics 2')")
    op.execute("INSERT INTO output_words (rowid, prompt) SELECT seq, prompt FROM outputs")


def downgrade() -> None:
    op.execute("DROP TABLE output_words")
    for name in INDEXES:
        op.drop_index(name, "outputs")
    for column in ("deleted_at", "synced_at", "local", "starred", "seconds", "lora", "key"):
        op.drop_column("outputs", column)
