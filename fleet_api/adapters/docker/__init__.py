"""Docker engines: this machine's own, and those of nodes, whose sockets come over kept SSH connections."""
