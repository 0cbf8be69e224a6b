"""SDXL's networks, each written once, for whatever computes them: a graph's builder or torch."""
