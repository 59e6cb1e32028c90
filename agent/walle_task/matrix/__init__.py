"""Arrays inside a task: the Python array API standard (2024.12), with NumPy's names beside it.

::

    from walle_task import matrix as np

    x = np.asarray(visit.enter.args["pixels"], dtype=np.float32)
    x = (x - x.mean()) / 255

Each module holds a chapter of the standard and lists its names in ``__all__``. Functions called often on small
arrays are the engine's own, re-exported; the others are written on top of those.
"""

import sys

from walle_engine import _native
from walle_engine._native import Array
from walle_task.matrix.creation import *
from walle_task.matrix.dtypes import *

__array_api_version__ = "2024.12"

_native.set_array_namespace(sys.modules[__name__])
