"""Durable state: the database with its migrations, and the published files."""
