"""``walle_task.matrix.linalg`` beside NumPy, judged by backward errors: a result is exact for an input that
differs by a small multiple of n eps, in norm."""

from typing import Any

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from walle_task import matrix
from walle_task.matrix import linalg

dtypes = st.sampled_from(["float32", "float64", "complex64", "complex128"])
batches = st.sampled_from([(), (), (1,), (3,), (2, 2), (0,)])
type Numbers = np.ndarray[Any, Any]


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], dtype: str | None = None) -> Numbers:
    """Random numbers; sometimes of low rank, of very different sizes, very small or not contiguous."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    name = draw(dtypes) if dtype is None else dtype
    x = rng.standard_normal(shape)
    if name.startswith("complex"):
        x = x + 1j * rng.standard_normal(shape)
    kind = draw(
        st.sampled_from(["plain", "plain", "graded", "equal columns", "small", "large", "zero", "whole"])
    )
    if kind == "graded":
        x = x * 10.0 ** rng.uniform(-6, 6, shape)
    elif kind == "equal columns" and shape[-1] > 1:
        x[..., -1] = x[..., 0]
    elif kind == "small":
        x = x * 1e-30
    elif kind == "large":
        x = x * 1e15
    elif kind == "zero":
        x = x * 0
    elif kind == "whole":
        x = np.round(x)
    x = x.astype(name)
    return x if draw(st.booleans()) else np.flip(np.asfortranarray(np.flip(x)))


def regular(data: st.DataObject, shape: tuple[int, ...], dtype: str) -> Numbers:
    """Normal numbers alone: such a matrix is singular with probability 0."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if dtype.startswith("complex") else x).astype(dtype)


def adjoint(x: Numbers) -> Numbers:
    return np.conj(np.swapaxes(x, -1, -2))


def size(x: Numbers) -> Any:
    wide = x.astype(np.complex128)
    return np.sqrt(np.sum(np.abs(wide) ** 2, axis=(-2, -1)))


def small(error: Numbers, scale: Any, n: int, dtype: str, times: float = 8) -> None:
    """|error| <= times n eps scale, matrix by matrix."""
    bound = times * (n + 1) * np.finfo(dtype).eps * np.asarray(scale) + np.finfo(dtype).tiny
    assert np.all(size(error) <= bound), (size(error) / bound).max()


def orthonormal(q: Numbers) -> None:
    small(adjoint(q) @ q - np.eye(q.shape[-1]), 1.0, q.shape[-2], q.dtype.name)


def own(*results: matrix.Array) -> list[Numbers]:
    return [np.asarray(result) for result in results]


def wide(x: Numbers) -> Numbers:
    return x.astype(np.complex128)


sizes = st.integers(0, 12) | st.sampled_from([31, 33, 48, 50, 70])


@given(data=st.data(), n=sizes, k=st.integers(0, 12), batch=batches)
def test_solve_and_inverse(data: st.DataObject, n: int, k: int, batch: tuple[int, ...]):
    dtype = data.draw(dtypes)
    a = regular(data, (*batch, n, n), dtype)
    b = data.draw(arrays((*batch, n, k), dtype))
    (x,) = own(linalg.solve(matrix.asarray(a), matrix.asarray(b)))
    assert x.shape == b.shape
    assert x.dtype == b.dtype
    small(wide(a) @ x - b, size(a) * size(x), n, dtype)
    (inverse,) = own(linalg.inv(matrix.asarray(a)))
    small(wide(a) @ inverse - np.eye(n), size(a) * size(inverse), n, dtype)


@given(data=st.data(), n=st.integers(1, 9), dtype=dtypes)
def test_solve_of_a_vector_and_of_broadcast_stacks(data: st.DataObject, n: int, dtype: str):
    a = regular(data, (2, 1, n, n), dtype) + np.eye(n, dtype=dtype) * 3 * n
    b = data.draw(arrays((3, n, 2), dtype))
    assert linalg.solve(matrix.asarray(a), matrix.asarray(b)).shape == (2, 3, n, 2)
    (x,) = own(linalg.solve(matrix.asarray(a[0, 0]), matrix.asarray(b[0, :, 0])))
    np.testing.assert_allclose(x, np.linalg.solve(a[0, 0], b[0, :, 0]), rtol=1e-4, atol=1e-30)


@given(data=st.data(), n=st.integers(0, 10), batch=batches, dtype=dtypes)
def test_determinants(data: st.DataObject, n: int, batch: tuple[int, ...], dtype: str):
    a = regular(data, (*batch, n, n), dtype) + n * np.eye(n, dtype=dtype)
    sign, logarithm = own(*linalg.slogdet(matrix.asarray(a)))
    want_sign, want = np.linalg.slogdet(wide(a))
    assert sign.dtype == a.dtype
    assert logarithm.dtype == np.real(a).dtype
    assert sign.shape == batch
    tolerance = 1e-3 if dtype in ("float32", "complex64") else 1e-9
    np.testing.assert_allclose(logarithm, want, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(sign, want_sign, rtol=tolerance, atol=tolerance)
    (det,) = own(linalg.det(matrix.asarray(a)))
    np.testing.assert_allclose(det, want_sign * np.exp(want), rtol=10 * tolerance)


def test_determinants_of_singular_matrices():
    sign, logarithm = linalg.slogdet(matrix.asarray([[1.0, 2.0], [2.0, 4.0]]))
    assert float(sign) == 0
    assert float(logarithm) == float("-inf")
    assert float(linalg.det(matrix.asarray([[1.0, 2.0], [2.0, 4.0]]))) == 0


@given(data=st.data(), m=sizes, n=sizes, batch=batches, complete=st.booleans())
def test_qr(data: st.DataObject, m: int, n: int, batch: tuple[int, ...], complete: bool):
    a = data.draw(arrays((*batch, m, n)))
    mode = "complete" if complete else "reduced"
    q, r = own(*linalg.qr(matrix.asarray(a), mode=mode))
    want = np.linalg.qr(a, mode=mode)
    assert (q.shape, r.shape, q.dtype) == (want[0].shape, want[1].shape, a.dtype)
    assert np.all(np.tril(r, -1) == 0)
    orthonormal(q)
    small(wide(q) @ r - a, size(a), m + n, a.dtype.name)


@given(data=st.data(), n=sizes, batch=batches)
def test_eigh(data: st.DataObject, n: int, batch: tuple[int, ...]):
    a = data.draw(arrays((*batch, n, n)))
    lower = np.tril(a, -1)
    h = lower + adjoint(lower) + np.real(a) * np.eye(n)
    h = h.astype(a.dtype)
    values, vectors = own(
        *linalg.eigh(matrix.asarray(lower + np.real(a) * np.eye(n, dtype=a.dtype) + np.triu(a, 1)))
    )
    assert values.dtype == np.real(a).dtype
    assert values.shape == (*batch, n)
    assert np.all(values[..., 1:] >= values[..., :-1])
    orthonormal(vectors)
    small(wide(h) @ vectors - vectors * values[..., None, :], size(h), n, a.dtype.name)
    (alone,) = own(linalg.eigvalsh(matrix.asarray(h)))
    small((alone - values)[..., None], size(h), n, a.dtype.name)


@given(data=st.data(), m=sizes, n=sizes, batch=batches, full=st.booleans())
def test_svd(data: st.DataObject, m: int, n: int, batch: tuple[int, ...], full: bool):
    a = data.draw(arrays((*batch, m, n)))
    u, s, vh = own(*linalg.svd(matrix.asarray(a), full_matrices=full))
    least = min(m, n)
    assert (u.shape, s.shape, vh.shape) == (
        (*batch, m, m if full else least),
        (*batch, least),
        (*batch, n if full else least, n),
    )
    assert np.all(s >= 0)
    assert np.all(s[..., 1:] <= s[..., :-1])
    assert s.dtype == np.real(a).dtype
    orthonormal(u)
    orthonormal(adjoint(vh))
    small((wide(u[..., :least]) * s[..., None, :]) @ vh[..., :least, :] - a, size(a), m + n, a.dtype.name)
    (alone,) = own(linalg.svdvals(matrix.asarray(a)))
    want = np.linalg.svd(wide(a), compute_uv=False)
    small((alone - want)[..., None], size(a), m + n, a.dtype.name)


@given(data=st.data(), n=sizes, batch=batches, upper=st.booleans())
def test_cholesky(data: st.DataObject, n: int, batch: tuple[int, ...], upper: bool):
    a = data.draw(arrays((*batch, n, n)))
    a = np.where(np.abs(a) > 1e10, 1, a).astype(a.dtype)
    h = (a @ adjoint(a) + np.eye(n) * (1 + size(a) ** 2)[..., None, None] * 0.01).astype(a.dtype)
    (factor,) = own(linalg.cholesky(matrix.asarray(h), upper=upper))
    lower = adjoint(factor) if upper else factor
    assert np.all(np.triu(lower, 1) == 0)
    small(wide(lower) @ adjoint(lower) - h, size(h), n, a.dtype.name)


@given(data=st.data(), m=st.integers(0, 9), n=st.integers(0, 9), batch=batches)
def test_what_singular_values_tell(data: st.DataObject, m: int, n: int, batch: tuple[int, ...]):
    rank = data.draw(st.integers(0, min(m, n)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a = rng.standard_normal((*batch, m, rank)) @ rng.standard_normal((*batch, rank, n))
    x = matrix.asarray(a)
    np.testing.assert_array_equal(*own(linalg.matrix_rank(x, rtol=1e-9)), np.full(batch, rank))
    (inverse,) = own(linalg.pinv(x, rtol=1e-9))
    assert inverse.shape == (*batch, n, m)
    np.testing.assert_allclose(
        inverse, np.linalg.pinv(a, rcond=1e-9), rtol=1e-5, atol=1e-6 * (1 + np.abs(inverse).max(initial=0))
    )


@given(data=st.data(), m=st.integers(1, 7), n=st.integers(1, 7), dtype=dtypes, keep=st.booleans())
def test_norms(data: st.DataObject, m: int, n: int, dtype: str, keep: bool):
    a = data.draw(arrays((2, m, n), dtype))
    a = np.where(np.abs(a) > 1e10, 1, np.where(np.abs(a) < 1e-12, 0, a)).astype(dtype)  # as squares
    for order in ("fro", "nuc", 1, -1, 2, -2, float("inf"), float("-inf")):
        (got,) = own(linalg.matrix_norm(matrix.asarray(a), ord=order, keepdims=keep))  # type: ignore[arg-type]
        want = np.linalg.matrix_norm(wide(a), ord=order, keepdims=keep)
        scale = np.linalg.matrix_norm(wide(a), ord="fro").max()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * scale + 1e-37)
        assert got.dtype == np.real(a).dtype
    axis = data.draw(st.sampled_from([None, 0, -1, (0, 2)]))
    for power in (0, 1, 2, 3, float("inf"), float("-inf")):
        (got,) = own(linalg.vector_norm(matrix.asarray(a), axis=axis, ord=power, keepdims=keep))
        want = np.linalg.vector_norm(wide(a), axis=axis, ord=power, keepdims=keep)
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-12)


@given(data=st.data(), n=st.integers(1, 6), power=st.integers(-3, 9))
def test_powers(data: st.DataObject, n: int, power: int):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a = rng.standard_normal((2, n, n)) + 4 * np.eye(n)
    (got,) = own(linalg.matrix_power(matrix.asarray(a), power))
    np.testing.assert_allclose(got, np.linalg.matrix_power(a, power), rtol=1e-8, atol=1e-8)


@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    offset=st.integers(-6, 6),
)
def test_parts_and_products_of_vectors(data: st.DataObject, shape: tuple[int, ...], offset: int):
    a = np.arange(np.prod(shape), dtype="int64").reshape(shape)
    x, s = matrix.asarray(a), strict.asarray(a)
    np.testing.assert_array_equal(
        *own(linalg.diagonal(x, offset=offset)), np.asarray(strict.linalg.diagonal(s, offset=offset))
    )
    np.testing.assert_array_equal(
        *own(linalg.trace(x, offset=offset)), np.asarray(strict.linalg.trace(s, offset=offset))
    )
    u, v = data.draw(arrays((2, 3), "float64")), data.draw(arrays((3,), "float64"))
    np.testing.assert_allclose(*own(linalg.cross(matrix.asarray(u), matrix.asarray(v))), np.cross(u, v))
    np.testing.assert_array_equal(
        *own(linalg.outer(matrix.asarray(u[0]), matrix.asarray(v))), np.outer(u[0], v)
    )


def test_least_squares():
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((9, 4)), rng.standard_normal((9, 2))
    x, residuals, rank, s = linalg.lstsq(matrix.asarray(a), matrix.asarray(b))
    want = np.linalg.lstsq(a, b, rcond=None)
    np.testing.assert_allclose(np.asarray(x), want[0])
    np.testing.assert_allclose(np.asarray(residuals), want[1])
    assert int(rank) == want[2]
    np.testing.assert_allclose(np.asarray(s), want[3])


@pytest.mark.parametrize("call", ["solve", "inv", "cholesky", "eigh", "svd"])
def test_what_cannot_be_computed_names_the_matrix(call: str):
    stack = np.stack([np.eye(3), np.full((3, 3), np.nan if call in ("eigh", "svd") else -1.0)])
    x = matrix.asarray(stack)
    with pytest.raises(linalg.LinAlgError, match=f"{call}.*matrix 1"):
        getattr(linalg, call)(x, x) if call == "solve" else getattr(linalg, call)(x)


@pytest.mark.parametrize(
    "call",
    [
        "inv",
        "det",
        "slogdet",
        "cholesky",
        "eigh",
        "eigvalsh",
        "qr",
        "svd",
        "svdvals",
        "pinv",
        "matrix_rank",
        "matrix_norm",
    ],
)
def test_what_is_no_matrix_of_floats_is_refused(call: str):
    function = getattr(linalg, call)
    with pytest.raises(ValueError, match=f"{call}.* two dims or more"):
        function(matrix.asarray([1.0, 2.0]))
    with pytest.raises(TypeError, match=f"{call}.*int64.*astype"):
        function(matrix.asarray([[1, 2], [3, 4]]))
    if call in ("inv", "det", "slogdet", "cholesky", "eigh", "eigvalsh"):
        with pytest.raises(ValueError, match="square matrices, not 1 x 2"):
            function(matrix.asarray([[1.0, 2.0]]))


def test_shapes_that_do_not_fit_are_refused():
    square, ones = matrix.asarray(np.eye(3)), matrix.asarray(np.ones((2, 2)))
    with pytest.raises(ValueError, match="3 rows, and right sides of 2"):
        linalg.solve(square, ones)
    with pytest.raises(ValueError, match="one dim or more"):
        linalg.solve(square, matrix.asarray(1.0))
    with pytest.raises(ValueError, match="'reduced' or 'complete'"):
        linalg.qr(square, mode="raw")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no ord 'two'"):
        linalg.matrix_norm(square, ord="two")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 elements"):
        linalg.cross(ones, ones)
