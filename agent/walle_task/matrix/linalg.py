"""Linear algebra: the extension ``linalg`` of the array API standard, with NumPy's other names beside it.

Every function takes stacks of matrices: the last two dimensions are the matrix. Numbers must be
floating-point or complex. What cannot be computed (a singular matrix to invert, one that is not positive
definite) raises ``LinAlgError``, a ``ValueError``, which names the matrix of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from walle_engine import _native
from walle_engine._native import (
    Array,
    abs,
    asarray,
    astype,
    broadcast_to,
    concat,
    conj,
    max,
    min,
    multiply,
    promote_types,
    sqrt,
    sum,
    take,
    where,
    zeros,
)
from walle_task.matrix.dtypes import finfo
from walle_task.matrix.linear_algebra import matmul, matrix_transpose, tensordot, vecdot
from walle_task.matrix.manipulation import broadcast_arrays, expand_dims

__all__ = [
    "LinAlgError",
    "cholesky",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eigh",
    "eigvalsh",
    "inv",
    "lstsq",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "norm",
    "outer",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "svd",
    "svdvals",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


class LinAlgError(ValueError):
    """The matrix does not have what was asked for."""


class EighResult(NamedTuple):
    """Eigenvalues, rising, and eigenvectors as columns."""

    eigenvalues: Array
    eigenvectors: Array


class QRResult(NamedTuple):
    """An orthonormal and an upper triangular factor."""

    Q: Array
    R: Array


class SlogdetResult(NamedTuple):
    """Sign of a determinant, and the logarithm of its size."""

    sign: Array
    logabsdet: Array


class SVDResult(NamedTuple):
    """Left vectors, singular values, falling, and right vectors as conjugated rows."""

    U: Array
    S: Array
    Vh: Array


def _matrices(function: str, x: object) -> Array:
    found = asarray(x)
    if found.ndim < 2:
        raise ValueError(f"{function}() takes matrices: arrays of two dims or more, not of {found.ndim}")
    if found.dtype.kind not in "fc":
        raise TypeError(f"{function}() takes floating-point numbers, not {found.dtype}: astype() converts")
    return found


def _square(function: str, x: object) -> Array:
    found = _matrices(function, x)
    if found.shape[-1] != found.shape[-2]:
        raise ValueError(f"{function}() takes square matrices, not {found.shape[-2]} x {found.shape[-1]}")
    return found


def _run(
    operation: str, x: Array, b: Array | None = None, *, option: bool = False, vectors: bool = True
) -> tuple[Array, ...]:
    """Ask the engine. Arguments have been checked: what it finds wrong is the matrix."""
    try:
        return _native.linalg(operation, x, b, option, vectors)
    except ValueError as error:
        raise LinAlgError(f"{operation}(): {error}") from None


def _adjoint(x: Array) -> Array:
    return conj(matrix_transpose(x)) if x.dtype.kind == "c" else matrix_transpose(x)


# ---- Equations, determinants ----


def solve(x1: Array, x2: Array, /) -> Array:
    """Return the x of ``x1 @ x = x2``; x2 is one vector, or matrices of right sides."""
    a, b = _square("solve", x1), asarray(x2)
    if b.ndim == 0:
        raise ValueError("solve() takes right sides of one dim or more")
    if b.dtype.kind not in "fc":
        raise TypeError(f"solve() takes floating-point numbers, not {b.dtype}: astype() converts")
    vector = b.ndim == 1
    if vector:
        b = b[..., None]
    if b.shape[-2] != a.shape[-1]:
        raise ValueError(f"solve(): matrices of {a.shape[-1]} rows, and right sides of {b.shape[-2]}")
    dtype = promote_types(a.dtype, b.dtype)
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    a = broadcast_to(astype(a, dtype, copy=False), (*batch, *a.shape[-2:]))
    b = broadcast_to(astype(b, dtype, copy=False), (*batch, *b.shape[-2:]))
    (x,) = _run("solve", a, b)
    return x[..., 0] if vector else x


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if a == b:
        return a
    shape, _ = broadcast_arrays(broadcast_to(asarray(0), a), broadcast_to(asarray(0), b))
    return shape.shape


def inv(x: Array, /) -> Array:
    """Return the inverse."""
    (inverse,) = _run("inv", _square("inv", x))
    return inverse


def det(x: Array, /) -> Array:
    """Return the determinant."""
    return _run("det", _square("det", x))[0]


def slogdet(x: Array, /) -> SlogdetResult:
    """Return sign and logarithm of the determinant, which itself may be out of range."""
    _, sign, logarithm = _run("det", _square("slogdet", x))
    return SlogdetResult(sign, logarithm)


# ---- Factors ----


def cholesky(x: Array, /, *, upper: bool = False) -> Array:
    """Return the lower factor l of ``x = l @ l^H``, or the upper one u of ``x = u^H @ u``."""
    (factor,) = _run("cholesky", _square("cholesky", x), option=upper)
    return factor


def qr(x: Array, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QRResult:
    """Return factors of ``x = Q @ R``; "complete": Q is square."""
    if mode not in ("reduced", "complete"):
        raise ValueError(f"qr() takes mode 'reduced' or 'complete', not {mode!r}")
    q, r = _run("qr", _matrices("qr", x), option=mode == "complete")
    return QRResult(q, r)


def eigh(x: Array, /) -> EighResult:
    """Return eigenvalues, rising, and eigenvectors of Hermitian matrices, of which the lower half counts."""
    values, vectors = _run("eigh", _square("eigh", x))
    return EighResult(values, vectors)


def eigvalsh(x: Array, /) -> Array:
    """Return the eigenvalues of Hermitian matrices, rising."""
    return _run("eigh", _square("eigvalsh", x), vectors=False)[0]


def svd(x: Array, /, *, full_matrices: bool = True) -> SVDResult:
    """Return factors of ``x = (U * S) @ Vh``; not full: U and Vh have as many vectors as there are values."""
    u, s, vh = _run("svd", _matrices("svd", x), option=full_matrices)
    return SVDResult(u, s, vh)


def svdvals(x: Array, /) -> Array:
    """Return the singular values, falling."""
    return _run("svd", _matrices("svdvals", x), vectors=False)[1]


# ---- What follows from singular values ----


def _tolerance(x: Array, rtol: float | Array | None) -> Array:
    """A column that suits the singular values: what is not above it times the largest counts as nothing."""
    if rtol is None:
        rtol = float(finfo(x.dtype).eps) * _larger(x.shape[-2], x.shape[-1])
    return expand_dims(asarray(rtol, dtype=finfo(x.dtype).dtype), axis=-1)


def _larger(a: int, b: int) -> int:
    return a if a > b else b


def matrix_rank(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Return how many singular values are above rtol times the largest."""
    a = _matrices("matrix_rank", x)
    s = svdvals(a)
    if 0 in s.shape:
        return zeros(s.shape[:-1], dtype="int64")
    return sum(s > _tolerance(a, rtol) * max(s, axis=-1, keepdims=True), axis=-1, dtype="int64")


def pinv(x: Array, /, *, rtol: float | Array | None = None) -> Array:
    """Return the pseudo-inverse; singular values up to rtol times the largest count as nothing."""
    a = _matrices("pinv", x)
    if 0 in a.shape:
        return zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), dtype=a.dtype)
    u, s, vh = svd(a, full_matrices=False)
    large = s > _tolerance(a, rtol) * max(s, axis=-1, keepdims=True)
    inverse = where(large, 1 / where(large, s, 1.0), 0.0)
    return matmul(_adjoint(vh), expand_dims(inverse, axis=-1) * _adjoint(u))


def lstsq(a: Array, b: Array, rcond: float | None = None) -> tuple[Array, Array, Array, Array]:
    """Return what minimises ``|a @ x - b|``: x, squared residuals, rank of a, its singular values."""
    matrix, right = _matrices("lstsq", a), asarray(b)
    if matrix.ndim != 2 or right.ndim not in (1, 2) or right.shape[0] != matrix.shape[0]:
        raise ValueError(f"lstsq() takes a matrix and as many right sides as it has rows, not {right.shape}")
    columns = expand_dims(right, axis=-1) if right.ndim == 1 else right
    x = matmul(pinv(matrix, rtol=rcond), columns)
    rank, s = matrix_rank(matrix, rtol=rcond), svdvals(matrix)
    residuals = zeros((0,), dtype=s.dtype)
    if matrix.shape[0] > matrix.shape[1] and int(rank) == matrix.shape[1]:
        residuals = sum(abs(columns - matmul(matrix, x)) ** 2, axis=0)
    return (x[:, 0] if right.ndim == 1 else x), residuals, rank, s


def cond(x: Array, /) -> Array:
    """Return the largest singular value over the smallest."""
    s = svdvals(x)
    return s[..., 0] / s[..., -1]


# ---- Norms ----


def matrix_norm(
    x: Array, /, *, keepdims: bool = False, ord: float | Literal["fro", "nuc"] | None = "fro"
) -> Array:
    """Return a norm of each matrix: "fro", "nuc", 1, -1, 2, -2, inf or -inf."""
    a = _matrices("matrix_norm", x)
    if ord in ("fro", None):
        result = sqrt(sum(abs(a) ** 2, axis=(-2, -1)))
    elif ord == "nuc":
        result = sum(svdvals(a), axis=-1)
    elif ord in (2, -2):
        result = _extreme(svdvals(a), int(ord) > 0)
    elif ord in (1, -1):
        result = _extreme(sum(abs(a), axis=-2), int(ord) > 0)
    elif ord in (float("inf"), float("-inf")):
        result = _extreme(sum(abs(a), axis=-1), float(ord) > 0)
    else:
        raise ValueError(f"matrix_norm() has no ord {ord!r}: use 'fro', 'nuc', 1, -1, 2, -2, inf or -inf")
    return result[..., None, None] if keepdims else result


def _extreme(x: Array, largest: bool) -> Array:
    """Along the last axis; of nothing, the largest is 0."""
    if largest and x.shape[-1] == 0:
        return zeros(x.shape[:-1], dtype=x.dtype)
    return (max if largest else min)(x, axis=-1)


def vector_norm(
    x: Array,
    /,
    *,
    axis: int | Sequence[int] | None = None,
    keepdims: bool = False,
    ord: float = 2,
) -> Array:
    """Return the norm of all elements together, or along axes."""
    v = asarray(x)
    if v.dtype.kind not in "fc":
        raise TypeError(f"vector_norm() takes floating-point numbers, not {v.dtype}: astype() converts")
    size = abs(v)
    if ord == float("inf"):
        return max(size, axis=axis, keepdims=keepdims)
    if ord == float("-inf"):
        return min(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum(astype(size != 0, size.dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(size, axis=axis, keepdims=keepdims)
    if ord == 2:
        return sqrt(sum(multiply(size, size), axis=axis, keepdims=keepdims))
    return sum(size**ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def norm(
    x: Array,
    ord: float | Literal["fro", "nuc"] | None = None,
    axis: int | tuple[int, int] | None = None,
    keepdims: bool = False,
) -> Array:
    """Return NumPy's norm: of vectors along an axis, of the matrix that x is, or of all elements."""
    v = asarray(x)
    if v.dtype.kind not in "fc":
        v = astype(v, "float64")
    if isinstance(axis, int) or ord is None:
        if isinstance(ord, str):
            raise ValueError(f"norm(): ord {ord!r} is one of matrices")
        return vector_norm(v, axis=axis, keepdims=keepdims, ord=2 if ord is None else ord)
    if axis is not None:
        raise ValueError("norm() of matrices takes the last two axes: permute_dims() brings others there")
    if v.ndim == 1 and not isinstance(ord, str):
        return vector_norm(v, keepdims=keepdims, ord=ord)
    return matrix_norm(v, keepdims=keepdims, ord=ord)


# ---- Products and parts ----


def matrix_power(x: Array, n: int, /) -> Array:
    """Return the product of n factors x; of the inverse where n is negative."""
    a = _square("matrix_power", x)
    if n < 0:
        a, n = inv(a), -n
    result = broadcast_to(_identity(a), a.shape)
    while n:
        if n & 1:
            result = matmul(result, a)
        n >>= 1
        if n:
            a = matmul(a, a)
    return result + 0 if result.shape == () else result.copy()


def _identity(x: Array) -> Array:
    size = x.shape[-1]
    places = _native.arange(size)
    return astype(expand_dims(places, axis=0) == expand_dims(places, axis=1), x.dtype)


def outer(x1: Array, x2: Array, /) -> Array:
    """Return all products of an element of the first vector and one of the second."""
    a, b = asarray(x1), asarray(x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"outer() takes two vectors, not arrays of {a.ndim} and {b.ndim} dims")
    return multiply(expand_dims(a, axis=1), expand_dims(b, axis=0))


def cross(x1: Array, x2: Array, /, *, axis: int = -1) -> Array:
    """Return the vectors that are normal to both, along an axis of three elements."""
    a, b = broadcast_arrays(asarray(x1), asarray(x2))
    if a.ndim == 0 or a.shape[axis] != 3:
        raise ValueError("cross() takes vectors of 3 elements")
    at = axis % a.ndim

    def part(x: Array, i: int) -> Array:
        return take(x, asarray([i]), axis=at)

    def component(i: int, j: int) -> Array:
        return part(a, i) * part(b, j) - part(a, j) * part(b, i)

    return concat([component(1, 2), component(2, 0), component(0, 1)], axis=at)


def diagonal(x: Array, /, *, offset: int = 0) -> Array:
    """Return the elements whose column is `offset` behind their row."""
    a = asarray(x)
    if a.ndim < 2:
        raise ValueError(f"diagonal() takes matrices: arrays of two dims or more, not of {a.ndim}")
    rows, columns = a.shape[-2:]
    first_row, first_column = (-offset if offset < 0 else 0), (offset if offset > 0 else 0)
    count = rows - first_row if rows - first_row < columns - first_column else columns - first_column
    places = _native.arange(count if count > 0 else 0)
    return a[..., places + first_row, places + first_column]


def trace(x: Array, /, *, offset: int = 0, dtype: object = None) -> Array:
    """Return the sum of the diagonal."""
    return sum(diagonal(x, offset=offset), axis=-1, dtype=dtype)
