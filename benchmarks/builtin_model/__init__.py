"""Measures how well the built-in model follows its prompts."""
