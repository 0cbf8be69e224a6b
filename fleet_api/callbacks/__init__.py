"""Calling back when a job has ended: signed, tried again over hours, to addresses that were checked."""
