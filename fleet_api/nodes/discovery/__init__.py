"""Finding machines on the network."""
