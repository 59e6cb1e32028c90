"""Image files: what comes back, beside OpenCV; what is refused; and decoding for a slot of a container."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from walle_shared.errors import LimitExceeded, TaskError
from walle_task import cv
from walle_task.cv import _pillow

PIXELS = np.random.default_rng(1).integers(0, 256, (19, 23, 4), dtype=np.uint8)
SMOOTH = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8), (0, 0), 3)


def _file(suffix: str, pixels: Any) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp"])
@pytest.mark.parametrize("flags", [cv.IMREAD_COLOR, cv.IMREAD_COLOR_RGB, cv.IMREAD_UNCHANGED])
@pytest.mark.parametrize("channels", [3, 4])
def test_reads_what_opencv_reads(suffix: str, flags: int, channels: int) -> None:
    data = _file(suffix, PIXELS[..., :channels]) if suffix != ".bmp" else _file(suffix, PIXELS[..., :3])
    ours, theirs = np.asarray(cv.imdecode(data, flags)), cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if flags != cv.IMREAD_UNCHANGED and channels == 4:
        assert ours.shape == theirs.shape  # transparent pixels may have any colour
    else:
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("flags", [cv.IMREAD_COLOR, cv.IMREAD_GRAYSCALE])
def test_reads_jpeg_as_opencv_does(flags: int) -> None:
    data = _file(".jpg", SMOOTH)
    ours = np.asarray(cv.imdecode(data, flags)).astype(int)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), flags).astype(int)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 2


def test_keeps_sixteen_bits() -> None:
    deep = np.random.default_rng(3).integers(0, 65536, (9, 7), dtype=np.uint16)
    data = _file(".png", deep)
    assert np.array_equal(np.asarray(cv.imdecode(data, cv.IMREAD_UNCHANGED)), deep)
    assert np.asarray(cv.imdecode(data, cv.IMREAD_GRAYSCALE)).dtype == np.uint8
    assert np.array_equal(cv2.imdecode(np.asarray(cv.imencode(".png", deep)[1]), -1), deep)


def test_turns_as_the_camera_was_held() -> None:
    written = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH[..., ::-1]).save(written, "JPEG", exif=exif)
    data = written.getvalue()
    assert (
        np.asarray(cv.imdecode(data)).shape
        == cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape
        == (50, 40, 3)
    )
    assert np.asarray(cv.imdecode(data, cv.IMREAD_COLOR | cv.IMREAD_IGNORE_ORIENTATION)).shape == (40, 50, 3)


@pytest.mark.parametrize(("suffix", "apart"), [(".png", 0), (".bmp", 0), (".webp", 0), (".jpg", 12)])
def test_writes_what_opencv_reads(suffix: str, apart: int) -> None:
    done, data = cv.imencode(suffix, SMOOTH[:, ::-1])
    read = cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR)
    assert done is True
    assert np.abs(read.astype(int) - SMOOTH[:, ::-1]).max() <= apart


def test_parameters_of_encoders_count() -> None:
    sizes = [np.asarray(cv.imencode(".jpg", SMOOTH, [cv.IMWRITE_JPEG_QUALITY, q])[1]).size for q in (10, 95)]
    assert sizes[0] < sizes[1]


def _png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 20_000, 2**31 - 1])
def test_refuses_bombs_before_they_go_off(side: int) -> None:
    with pytest.raises((LimitExceeded, TaskError)):
        cv.imdecode(_png_of(side, side))
    with pytest.raises(LimitExceeded):
        cv.imdecode(_png_of(9_000, 9_000))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
def test_no_broken_file_is_fatal(suffix: str) -> None:
    data = bytearray(_file(suffix, PIXELS[..., :3]))
    random = np.random.default_rng(4)
    for _ in range(40):
        broken = bytearray(data)
        for at in random.integers(0, len(data), 4):
            broken[at] = random.integers(0, 256)
        broken = broken[: random.integers(1, len(data) + 1)]
        try:
            cv.imdecode(broken)
        except (TaskError, LimitExceeded):
            continue


@pytest.mark.parametrize("data", [b"", b"no image", b"GIF89a" + bytes(40), 7, None])
def test_refuses_what_is_no_image(data: Any) -> None:
    with pytest.raises(TaskError):
        cv.imdecode(data)


def test_refuses_to_write_what_a_format_cannot_hold() -> None:
    for suffix, pixels in ((".gif", SMOOTH), (".jpg", SMOOTH.astype(np.float32)), (".jpg", PIXELS[..., :2])):
        with pytest.raises(TaskError):
            cv.imencode(suffix, pixels)
    with pytest.raises(TaskError):
        cv.imencode(".jpg", SMOOTH, [1])


def test_a_file_may_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pillow, "IMAGE_FILE_MAX_BYTES", 10)
    with pytest.raises(LimitExceeded):
        cv.imdecode(_file(".png", SMOOTH))
