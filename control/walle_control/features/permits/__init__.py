"""Permits: exact caps on how many devices may have a release."""
