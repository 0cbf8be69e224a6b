"""Pinned SSH host keys."""
