"""Runs the migrations that a database lacks."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DatabaseError, OperationalError

from fleet_api.errors import SchemaTooNew
from fleet_api.kit.db import DatabaseUnusable, sqlite_engine, translated


def run(database: Path, folder: Path) -> bool:
    """See :func:`fleet_api.migrate.upgrade`."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", str(folder))
    script = ScriptDirectory.from_config(config)
    engine = sqlite_engine(database)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
            if current == script.get_current_head():
                return False
            if current is not None and current not in {each.revision for each in script.walk_revisions()}:
                raise SchemaTooNew(
                    f"The database {database} has schema {current}, which this version does not know: a newer version wrote it. "
                    "Install that version again, or restore a backup from before the upgrade."
                )
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            raw = connection.connection.dbapi_connection
            if raw is not None and raw.in_transaction:
                connection.exec_driver_sql("COMMIT")
            return True
    except (OperationalError, DatabaseError) as error:
        raised = translated(error)
        raise raised if isinstance(raised, DatabaseUnusable) else error from error
    finally:
        engine.dispose()
