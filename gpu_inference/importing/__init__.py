"""From a checkpoint as it is published to a model folder as the engine runs it. No torch; the package ``onnx`` is needed here alone."""
