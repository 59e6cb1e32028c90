"""The numerical routines in an isolated interpreter, where NumPy cannot be."""

import textwrap

import pytest

_interpreters = pytest.importorskip("_interpreters")

SOURCE = """
from walle_task import matrix as np

x = np.asarray([[4.0, 1.0], [1.0, 3.0]])
assert np.linalg.inv(x).shape == (2, 2)
assert np.linalg.svd(x).S.shape == (2,)
assert np.fft.fft(np.asarray([1.0, 0.0, 0.0])).tolist() == [1, 1, 1]
assert np.sort(np.asarray([3, 1, 2])).tolist() == [1, 2, 3]
assert np.unique_values(np.asarray([3, 1, 3])).tolist() == [1, 3]
assert np.random.default_rng(12345).integers(0, 10, 3).tolist() == [6, 2, 7]
"""


def test_numerical_routines_run_in_an_isolated_interpreter():
    interpreter = _interpreters.create("isolated")
    try:
        failure = _interpreters.exec(interpreter, textwrap.dedent(SOURCE))
        assert failure is None, failure.formatted
    finally:
        _interpreters.destroy(interpreter)
