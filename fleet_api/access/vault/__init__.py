"""Credentials of machines, sealed."""
