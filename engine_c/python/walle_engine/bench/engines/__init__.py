"""One file an engine: see ``worker.py``."""
