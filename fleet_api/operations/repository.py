"""SQL of operations, their events and the locks of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from fleet_api.operations.models import NodeLock, Operation, OperationEvent, ScheduledRun
from fleet_api.operations.states import ENDED, UNFINISHED, OperationState

operations = Operation.__table__  # type: ignore[attr-defined]
events = OperationEvent.__table__  # type: ignore[attr-defined]
locks = NodeLock.__table__  # type: ignore[attr-defined]
scheduled = ScheduledRun.__table__  # type: ignore[attr-defined]


def add(db: Connection, rows: Iterable[Operation]) -> None:
    """Insert operations."""
    db.execute(insert(operations), [row.model_dump() for row in rows])


def get(db: Connection, operation_id: str) -> Operation | None:
    """Return one operation."""
    row = db.execute(select(operations).where(operations.c.id == operation_id)).mappings().first()
    return Operation(**row) if row else None


def page(
    db: Connection, limit: int, offset: int, kind: str | None = None, state: str | None = None, parent_id: str | None = None
) -> tuple[list[Operation], int]:
    """Return a page, newest first, and how many there are in all."""
    wanted = [
        column == value
        for column, value in ((operations.c.kind, kind), (operations.c.state, state), (operations.c.parent_id, parent_id))
        if value is not None
    ]
    total = db.execute(select(func.count()).select_from(operations).where(*wanted)).scalar_one()
    query = select(operations).where(*wanted).order_by(operations.c.created_at.desc(), operations.c.id).limit(limit).offset(offset)
    return [Operation(**row) for row in db.execute(query).mappings()], total


def unfinished(db: Connection) -> list[Operation]:
    """Return what waits or runs, oldest first."""
    query = select(operations).where(operations.c.state.in_(UNFINISHED)).order_by(operations.c.created_at, operations.c.id)
    return [Operation(**row) for row in db.execute(query).mappings()]


def of_kind(db: Connection, kind: str, limit: int = 1_000) -> list[Operation]:
    """Return the newest operations of a kind that nobody has cleared away, oldest first."""
    wanted = (operations.c.kind == kind, operations.c.dismissed.is_(False))
    query = select(operations).where(*wanted).order_by(operations.c.created_at.desc(), operations.c.id.desc()).limit(limit)
    return [Operation(**row) for row in db.execute(query).mappings()][::-1]


def change(db: Connection, operation_id: str, **values: Any) -> None:
    """Set columns of one operation."""
    db.execute(update(operations).where(operations.c.id == operation_id).values(**values))


def move(db: Connection, operation_id: str, before: OperationState, **values: Any) -> bool:
    """Set columns, ``state`` among them, if the operation is still in ``before``; return whether it was."""
    done = db.execute(update(operations).where(operations.c.id == operation_id, operations.c.state == before).values(**values))
    return done.rowcount == 1


def dismiss_ended(db: Connection, kind: str) -> int:
    """Clear the ended operations of a kind away from its queue; they stay in the history. Returns how many."""
    wanted = (operations.c.kind == kind, operations.c.state.in_(ENDED), operations.c.dismissed.is_(False))
    return db.execute(update(operations).where(*wanted).values(dismissed=True)).rowcount


def take_locks(db: Connection, names: Sequence[str], operation_id: str, now: float) -> None:
    """Note that an operation holds these names."""
    rows = [{"node_id": name, "operation_id": operation_id, "since": now} for name in sorted(set(names))]
    if rows:
        db.execute(sqlite_insert(locks).on_conflict_do_nothing(index_elements=["node_id"]), rows)


def clear_locks(db: Connection) -> None:
    """Forget every lock: at the start nothing runs."""
    db.execute(delete(locks))


def free_locks(db: Connection, operation_id: str) -> None:
    """Free what an operation holds."""
    db.execute(delete(locks).where(locks.c.operation_id == operation_id))


def held(db: Connection) -> dict[str, str]:
    """Return the operation that holds each lock."""
    return {row.node_id: row.operation_id for row in db.execute(select(locks.c.node_id, locks.c.operation_id))}


def add_events(db: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Append events."""
    db.execute(insert(events), rows)


def events_after(db: Connection, operation_id: str, after: int, limit: int) -> list[OperationEvent]:
    """Return events numbered above ``after``, in order."""
    query = select(events).where(events.c.operation_id == operation_id, events.c.seq > after).order_by(events.c.seq).limit(limit)
    return [OperationEvent(**row) for row in db.execute(query).mappings()]


def runs(db: Connection) -> dict[str, ScheduledRun]:
    """Return when each scheduled job ran, by name."""
    return {row["name"]: ScheduledRun(**row) for row in db.execute(select(scheduled)).mappings()}


def keep_run(db: Connection, name: str, **values: Any) -> None:
    """Note when a scheduled job ran, or is to run."""
    new = sqlite_insert(scheduled).values(name=name, enabled=True, **values)
    db.execute(new.on_conflict_do_update(index_elements=["name"], set_=values))


def ended_before(db: Connection, before: float | None, keep: int | None, limit: int) -> list[str]:
    """Return ids of ended operations over their age or count, oldest first."""
    found: list[str] = []
    if before is not None:
        query = select(operations.c.id).where(operations.c.state.in_(ENDED), operations.c.ended_at < before)
        found += db.execute(query.order_by(operations.c.created_at).limit(limit)).scalars()
    if keep is not None and len(found) < limit:
        surplus = db.execute(select(func.count()).select_from(operations).where(operations.c.state.in_(ENDED))).scalar_one() - keep
        if surplus > len(found):
            query = select(operations.c.id).where(operations.c.state.in_(ENDED)).order_by(operations.c.created_at)
            found = list(db.execute(query.limit(min(limit, surplus))).scalars())
    return found


def remove(db: Connection, ids: Sequence[str]) -> None:
    """Delete operations and their events."""
    if ids:
        db.execute(delete(events).where(events.c.operation_id.in_(ids)))
        db.execute(delete(operations).where(operations.c.id.in_(ids)))
