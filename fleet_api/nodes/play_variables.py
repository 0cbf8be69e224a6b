"""What every play on nodes is told of the fleet itself."""

from __future__ import annotations

import contextlib
from typing import Any

from fleet_api.access import registry_identity
from fleet_api.access.listening import public_url
from fleet_api.errors import Unavailable
from fleet_api.settings import Settings


def play_variables(settings: Settings, operation_id: str) -> dict[str, Any]:
    """Return the operation, where the control plane is, and the registry that engines are to trust, where the fleet has one of its own."""
    found = {"fleet_operation": operation_id, "fleet_control_plane_url": public_url(settings, settings.port)}
    with contextlib.suppress(Unavailable):
        if known := registry_identity.login(settings.registry_folder):
            found["fleet_registry"] = known.address
    return found
