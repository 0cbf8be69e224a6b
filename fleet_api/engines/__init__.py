"""Engines of TensorRT: ordered of nodes, and kept for nodes of the same kind."""
