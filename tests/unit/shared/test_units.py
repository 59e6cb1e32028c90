import pytest

from walle_shared.units import format_bytes, format_seconds


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (18_200, "18.2 KB"), (5e12, "5000.0 GB")]
)
def test_sizes_read_like_sizes(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(35e-6, "35 µs"), (0.0041, "4.1 ms"), (2.34, "2.3 s")])
def test_durations_read_like_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
