"""The services that a fleet may run, as data."""
