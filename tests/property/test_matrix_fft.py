"""``walle_task.matrix.fft`` beside NumPy in float64: errors stay below log2(n) + 2 units, in norm."""

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from walle_task import matrix
from walle_task.matrix import fft

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=19)
norms = st.sampled_from(["backward", "ortho", "forward"])
type Numbers = np.ndarray[Any, Any]


def numbers(data: st.DataObject, shape: tuple[int, ...], dtype: str) -> Numbers:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.standard_normal(shape) * 10.0 ** data.draw(st.integers(-9, 9))
    x = (x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x).astype(dtype)
    return np.asfortranarray(x) if data.draw(st.booleans()) else x


def near(got: matrix.Array, want: Numbers, dtype: str, points: int) -> None:
    ours = np.asarray(got)
    assert ours.shape == want.shape
    single = dtype in ("float32", "complex64")
    assert (
        ours.dtype
        == (want.real if want.dtype.kind == "f" else want)
        .astype(want.dtype.kind + ("4" if want.dtype.kind == "f" else "8") if single else want.dtype)
        .dtype
    )
    unit = np.finfo(np.float32 if single else np.float64).eps
    assert np.linalg.norm(ours - want) <= (np.log2(points) + 2) * unit * (np.linalg.norm(want) + 1e-30)


@given(
    data=st.data(),
    shape=shapes,
    norm=norms,
    function=st.sampled_from(["fft", "ifft", "irfft", "hfft", "rfft", "ihfft"]),
)
def test_transforms_along_an_axis(data: st.DataObject, shape: tuple[int, ...], norm: Any, function: str):
    real = function in ("rfft", "ihfft")
    dtype = data.draw(st.sampled_from(["float32", "float64"] if real else ["complex64", "complex128"]))
    x = numbers(data, shape, dtype)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    n = data.draw(st.none() | st.integers(1, 23))
    if function in ("irfft", "hfft") and n is None and shape[axis] == 1:
        n = 1
    wide = x.astype("float64" if real else "complex128")
    want = getattr(np.fft, function)(wide, n=n, axis=axis, norm=norm)
    got = getattr(fft, function)(matrix.asarray(x), n=n, axis=axis, norm=norm)
    near(got, want, dtype, (n or shape[axis]) + 1)


LENGTHS = [
    1,
    2,
    8,
    16,
    17,
    31,
    64,
    97,
    121,
    169,
    210,
    256,
    283,
    500,
    1001,
    1024,
    2310,
    4096,
    8191,
    16384,
    20011,
]


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_lengths_of_every_kind_of_plan(n: int, dtype: str):
    rng = np.random.default_rng(n)
    x = (rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))).astype(dtype)
    near(fft.fft(matrix.asarray(x)), np.fft.fft(x.astype("complex128")), dtype, n + 1)
    near(fft.rfft(matrix.asarray(x.real)), np.fft.rfft(x.real.astype("float64")), dtype, n + 1)
    back = fft.irfft(fft.rfft(matrix.asarray(x.real)), n=n)
    near(back, x.real.astype("float64"), dtype, 4 * n)


@given(data=st.data(), shape=shapes, norm=norms)
def test_transforms_along_several_axes(data: st.DataObject, shape: tuple[int, ...], norm: Any):
    x = numbers(data, shape, "float64")
    axes = data.draw(st.none() | st.lists(st.sampled_from(range(x.ndim)), min_size=1, unique=True).map(tuple))
    count = x.ndim if axes is None else len(axes)
    s = data.draw(st.none() | st.lists(st.integers(1, 9), min_size=count, max_size=count).map(tuple))
    given_axes = tuple(range(x.ndim)) if axes is None and s is not None else axes
    how: dict[str, Any] = {"s": s, "axes": given_axes, "norm": norm}
    for function in ("fftn", "ifftn", "rfftn"):
        near(
            getattr(fft, function)(matrix.asarray(x), **how),
            getattr(np.fft, function)(x, **how),
            "float64",
            x.size * 9,
        )
    z = x + 1j * np.flip(x)
    if s is not None or x.shape[-1 if axes is None else axes[-1]] > 1:
        near(fft.irfftn(matrix.asarray(z), **how), np.fft.irfftn(z, **how), "float64", x.size * 9)


@given(n=st.integers(1, 30), d=st.sampled_from([1.0, 0.5, 3.0]))
def test_frequencies(n: int, d: float):
    for function in ("fftfreq", "rfftfreq"):
        ours = np.asarray(getattr(fft, function)(n, d=d))
        np.testing.assert_allclose(ours, np.asarray(getattr(strict.fft, function)(n, d=d)), rtol=1e-15)


@given(data=st.data(), shape=shapes)
def test_shifts(data: st.DataObject, shape: tuple[int, ...]):
    x = numbers(data, shape, "float32")
    axes = data.draw(st.none() | st.integers(-x.ndim, x.ndim - 1))
    for function in ("fftshift", "ifftshift"):
        ours = np.asarray(getattr(fft, function)(matrix.asarray(x), axes=axes))
        np.testing.assert_array_equal(ours, getattr(np.fft, function)(x, axes=axes))


def test_integers_are_transformed_as_float64_and_mistakes_are_told():
    whole = matrix.asarray([1, 2, 3])
    assert fft.fft(whole).dtype == matrix.complex128
    assert fft.rfft(whole).dtype == matrix.complex128
    with pytest.raises(TypeError, match=r"rfft.*real numbers, not complex128"):
        fft.rfft(matrix.asarray([1j]))
    with pytest.raises(ValueError, match="no transform of 0 points"):
        fft.fft(matrix.asarray([], dtype="float64"))
    with pytest.raises(ValueError, match="one dim or more"):
        fft.fft(matrix.asarray(1.0))
    with pytest.raises(ValueError, match="'ortho' or 'forward', not 'unit'"):
        fft.fft(whole, norm="unit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one axis twice"):
        fft.fftn(whole, axes=(0, -1))
    with pytest.raises(IndexError, match="array of 1 dims"):
        fft.fftn(whole, axes=(1,))
