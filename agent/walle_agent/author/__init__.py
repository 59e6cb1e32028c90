"""The task author's tools: make a task, check it, run, profile and test it as a device would, before any
release.

None of it is on a device: the slim runtime leaves this package out.
"""
