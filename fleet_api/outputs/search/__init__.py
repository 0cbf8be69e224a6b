"""Pages of outputs, filtered."""
