"""Releases: which version goes to whom; every change is a new signed epoch."""
