"""Audit: who changed what, in a chain in which nothing can be altered unseen."""
