"""An image registry, by Docker's HTTP API V2."""
