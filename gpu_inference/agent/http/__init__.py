"""What an agent answers over HTTP: to its neighbours (``share.py`` beside this folder) and at its own door."""
