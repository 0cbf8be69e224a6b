"""Trains the built-in model on drawn, captioned shapes; never part of set-up or CI."""
