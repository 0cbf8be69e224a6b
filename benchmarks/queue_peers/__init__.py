"""Our queue beside task queues of the field, on a real Redis and a real PostgreSQL."""
