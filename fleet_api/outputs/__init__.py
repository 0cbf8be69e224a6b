"""Finished pictures: the files and what is known about them."""
