"""Fleets of devices in simulation: protocol-true against a real server, and as a model of any size."""
