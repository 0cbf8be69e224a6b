"""What changed of the services since the last look, told on the bus while somebody listens."""

from __future__ import annotations

from typing import Any

from fleet_api.errors import FleetError
from fleet_api.kit.bus import Bus
from fleet_api.services.running.schemas import ServiceView
from fleet_api.services.running.service import RunningServices


class ServiceWatch:
    """One instance a process, used on the event loop only."""

    def __init__(self, services: RunningServices, bus: Bus) -> None:
        self._services = services
        self._bus = bus
        self._before: dict[str, ServiceView] | None = None

    async def look(self) -> None:
        """Publish ``service_update`` for each service that changed. Without a reader, or a swarm, nothing is asked."""
        if not self._bus.subscribers or self._services.swarm.managers.swarm is None:
            self._before = None
            return
        try:
            found = await self._services.every()
        except FleetError:
            return
        if found.why:
            return
        now = {each.id: each for each in found.value}
        if self._before is not None:
            for service_id in self._before.keys() | now.keys():
                old, new = self._before.get(service_id), now.get(service_id)
                if old != new:
                    self._tell(new or old, "created" if old is None else "removed" if new is None else "updated")  # type: ignore[arg-type]
        self._before = now

    def _tell(self, service: ServiceView, action: str) -> None:
        data: dict[str, Any] = {**service.model_dump(), "service_id": service.id, "action": action}
        self._bus.publish("service_update", data)
