"""Outputs and the bucket: copies, proofs, and what other programs wrote."""
