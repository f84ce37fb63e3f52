"""One file a format: `read(path) -> Part`. `load.py` decides which reader a path needs."""
