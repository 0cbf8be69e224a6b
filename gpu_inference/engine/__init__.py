"""The engine: one child process a device, which loads models and makes pictures.

Only :mod:`gpu_inference.engine.wire` is imported by the agent; everything else lives in the child.
"""

from __future__ import annotations

import os

from gpu_inference.gpus import order_as_nvml

order_as_nvml()
# ONNX Runtime's builds for Linux, such as 1.31, report sessions to their maker, and keep an id of the machine in the home for it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
