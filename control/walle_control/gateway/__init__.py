"""The long-lived conversations with devices: the push stream and the upload tunnel."""
