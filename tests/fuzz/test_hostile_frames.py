"""A few broken conversations of the fuzzer, the same ones each time, and those that are whole."""

from __future__ import annotations

import importlib.util
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest


def _load() -> Any:
    spec = importlib.util.spec_from_file_location(
        "hostile_frames", Path(__file__).with_name("hostile_frames.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hostile_frames = _load()


@pytest.mark.parametrize("seed", range(3))
def test_broken_conversations_end_in_typed_errors(seed: int) -> None:
    ends = [
        hostile_frames.play(frames, to_cloud=to_cloud) == len(frames)
        for frames, to_cloud in islice(hostile_frames.conversations(random.Random(seed)), 60)
    ]
    assert {True, False} == set(ends)  # some are refused, and some are whole enough


@pytest.mark.parametrize("seed", range(5))
def test_whole_conversations_are_taken(seed: int) -> None:
    device = hostile_frames.from_device(random.Random(seed))
    cloud = hostile_frames.from_cloud(random.Random(seed))
    assert hostile_frames.play(device, to_cloud=True) == len(device)
    assert hostile_frames.play(cloud, to_cloud=False) == len(cloud)
