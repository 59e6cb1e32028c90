"""Finding elements and choosing among them."""

from walle_engine._native import argmax, argmin, where

__all__ = ["argmax", "argmin", "where"]
