"""Work that an agent leases: states, leases, retries, the queue."""
