"""Fakes and simulators that tests share."""
