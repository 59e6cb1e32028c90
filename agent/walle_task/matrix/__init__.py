"""Arrays inside a task: the Python array API standard (2024.12), with NumPy's names beside it.

::

    from walle_task import matrix as np

    x = np.asarray(visit.enter.args["pixels"], dtype=np.float32)
    x = (x - x.mean()) / 255

Each module holds a chapter of the standard and lists its names in ``__all__``. Functions often called on
small arrays are the engine's own, re-exported; the others are written on top of those.
"""

import sys

from walle_engine import _native
from walle_engine._native import Array
from walle_task.matrix import (
    constants,
    creation,
    dtypes,
    elementwise,
    fft,
    indexing,
    inspection,
    linalg,
    linear_algebra,
    manipulation,
    numpy_names,
    printing,
    random,
    searching,
    sets,
    sorting,
    statistical,
    utility,
)
from walle_task.matrix.constants import *
from walle_task.matrix.creation import *
from walle_task.matrix.dtypes import *
from walle_task.matrix.elementwise import *
from walle_task.matrix.indexing import *
from walle_task.matrix.inspection import *
from walle_task.matrix.linear_algebra import *
from walle_task.matrix.manipulation import *
from walle_task.matrix.numpy_names import *
from walle_task.matrix.printing import *
from walle_task.matrix.searching import *
from walle_task.matrix.sets import *
from walle_task.matrix.sorting import *
from walle_task.matrix.statistical import *
from walle_task.matrix.utility import *

__array_api_version__ = "2024.12"

__all__ = ["Array", "fft", "linalg", "random"]
__all__ += constants.__all__
__all__ += creation.__all__
__all__ += dtypes.__all__
__all__ += elementwise.__all__
__all__ += indexing.__all__
__all__ += inspection.__all__
__all__ += linear_algebra.__all__
__all__ += manipulation.__all__
__all__ += numpy_names.__all__
__all__ += printing.__all__
__all__ += searching.__all__
__all__ += sets.__all__
__all__ += sorting.__all__
__all__ += statistical.__all__
__all__ += utility.__all__

_native.set_array_namespace(sys.modules[__name__])
