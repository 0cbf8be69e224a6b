"""Engines of TensorRT: built on the node that runs them, and kept by what they were built of and for."""
