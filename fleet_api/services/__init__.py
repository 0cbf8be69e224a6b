"""What runs on the fleet: the swarm, its services, containers, clusters."""
