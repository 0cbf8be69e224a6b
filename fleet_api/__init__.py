"""Fleet Commander's control plane."""

from fleet_api.version import __version__

__all__ = ["__version__"]
