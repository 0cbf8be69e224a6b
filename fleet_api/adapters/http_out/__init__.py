"""Calls to addresses that callers named."""
