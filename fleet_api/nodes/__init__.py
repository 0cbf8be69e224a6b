"""Machines: what they are, what they report, whether they are there."""
