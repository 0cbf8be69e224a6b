"""Which node takes which job: pure functions, no I/O."""
