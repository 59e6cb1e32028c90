"""The control plane: imports tasks, decides who gets them, pushes, and takes back what misbehaves."""

__all__: list[str] = []
