"""What the playbook ``storage`` noted of the object store that it made: where it is, and which credential of the vault opens it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from fleet_api.errors import Unavailable

NOTE, CA_FILE = "store.json", "ca.crt"


class KnownStore(BaseModel):
    """``endpoint`` such as ``http://192.0.2.10:9010``; ``credential`` is a name in the vault."""

    endpoint: str
    credential: str
    region: str = "us-east-1"


def read(folder: Path) -> KnownStore | None:
    """Return what was noted; None where the playbook has not run. Raises Unavailable for a note that cannot be read."""
    try:
        return KnownStore.model_validate_json((folder / NOTE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise Unavailable(f"The note {folder / NOTE} cannot be read; run the playbook 'storage' again.") from error
