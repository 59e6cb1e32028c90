"""The conversation with the control plane: what to say (``exchange``), how it travels (``transport``)."""
