"""The Docker Swarm of the fleet: who manages it, who is in it."""
