"""The agent: one on each node. It leases jobs, hands them to engine children and reports; it imports no engine."""
