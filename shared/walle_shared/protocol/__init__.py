"""The conversation between device and control plane: message types, their bytes, and the version spoken."""
