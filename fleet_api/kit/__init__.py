"""Infrastructure without a domain word in it."""
