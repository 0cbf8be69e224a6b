"""The models that the fleet has."""
