"""The base of every table: one metadata, whose constraints and indexes all have names that migrations can use."""

from __future__ import annotations

from sqlalchemy import MetaData
from sqlmodel import SQLModel


class Table(SQLModel):
    """Subclass with ``table=True``."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
