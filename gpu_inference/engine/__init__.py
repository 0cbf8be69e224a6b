"""The engine: one child process a device, which loads models and makes pictures.

Only :mod:`gpu_inference.engine.wire` is imported by the agent; everything else lives in the child.
"""
