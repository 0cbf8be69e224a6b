"""The built-in model: a tiny text-to-image model of SDXL's architecture, shipped as ONNX graphs in ``model/``."""
