"""Services of the swarm: created, scaled, updated, rolled back, watched."""
