"""Rollouts: what the reports of devices do to a release."""
