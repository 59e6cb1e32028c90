"""The command ``walle-control``: argument parsing and nothing else."""

from walle_control.cli.main import main

__all__ = ["main"]
