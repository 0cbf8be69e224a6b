"""``Idempotency-Key``: a request that creates may be sent again, and makes nothing twice."""
