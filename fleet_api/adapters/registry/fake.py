"""A registry that a test describes, in place of a real one."""

from __future__ import annotations

from fleet_api.errors import FleetError


class FakeRegistry:
    """``images`` are tags by name; ``error`` is raised instead where it is set."""

    def __init__(self, images: dict[str, list[str]] | None = None, error: FleetError | None = None) -> None:
        self.images = images or {}
        self.error = error

    async def names(self) -> list[str]:
        """See :class:`Registry`."""
        if self.error is not None:
            raise self.error
        return sorted(self.images)

    async def tags(self, names: list[str]) -> dict[str, list[str]]:
        """See :class:`Registry`."""
        if self.error is not None:
            raise self.error
        return {name: self.images.get(name, []) for name in names}
