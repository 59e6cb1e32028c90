"""Operators and their tokens."""
