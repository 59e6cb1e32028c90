"""A task reads image files that its worker decodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from walle_container import TaskHost, TaskSpec

type MakeSpec = Callable[..., TaskSpec]


@pytest.mark.parametrize("tier", ["interp", "process"])
async def test_a_task_decodes_and_encodes_by_its_worker(
    host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any], tier: str
):
    pixels = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    spec = make_spec(
        """
        from walle_task import cv
        def run():
            image = cv.imdecode(open("photo.png", "rb").read())
            _, again = cv.imencode(".png", image)
            same = cv.absdiff(cv.imdecode(again), image)
            try:
                cv.imdecode(b"no image at all")
            except Exception as error:
                refusal = type(error).__name__
            return [cv.resize(image, (3, 2)).tolist(), cv.mean(same), refusal]
        """,
        tier=tier,
    )
    (spec.bundle_dir / "photo.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    result = await host.run(spec, inputs)
    assert result.ok, result.error
    assert result.value == [cv2.resize(pixels, (3, 2)).tolist(), [0, 0, 0, 0], "TaskError"]


async def test_a_task_cannot_import_the_decoder(host: TaskHost, make_spec: MakeSpec, inputs: dict[str, Any]):
    result = await host.run(make_spec("def run():\n    import PIL\n"), inputs)
    assert result.error_kind == "denied"
