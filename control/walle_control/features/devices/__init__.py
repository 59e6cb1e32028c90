"""Devices: enrolment, credentials, what is known of each."""
