"""Telemetry: reports and features as they arrive from devices."""
