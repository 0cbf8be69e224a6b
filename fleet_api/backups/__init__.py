"""Backups of the control plane, and an export that any program reads."""
