"""SSH to nodes: kept connections, pinned host keys, commands."""
