"""Containers of single engines."""
