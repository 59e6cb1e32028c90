"""Images inside a task: OpenCV's names, arguments and results, on Walle's own engine.

::

    from walle_task import cv

    image = cv.imdecode(data, cv.IMREAD_COLOR)
    edges = cv.Canny(cv.GaussianBlur(image, (5, 5), 0), 50, 150)
    scores = model.load("faces").run({"image": cv.to_tensor(image, size=(224, 224), swap_rb=True)})

An image is any buffer of rows of pixels, ``[height, width]`` or ``[height, width, channels]``. What OpenCV
refuses is refused here with a :class:`~walle_shared.errors.TaskError` or
:class:`~walle_shared.errors.EngineError` that says what to do.
Importable in an isolated interpreter, which OpenCV is not.
"""

from walle_task.cv._image import getNumThreads, setNumThreads
from walle_task.cv.arithmetic import (
    LUT,
    absdiff,
    adaptiveThreshold,
    add,
    addWeighted,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    calcHist,
    convertScaleAbs,
    convertTo,
    countNonZero,
    equalizeHist,
    inRange,
    integral,
    max,
    mean,
    meanStdDev,
    merge,
    min,
    minMaxLoc,
    norm,
    normalize,
    split,
    subtract,
    sumElems,
    threshold,
)
from walle_task.cv.color import cvtColor
from walle_task.cv.constants import *  # all of them are OpenCV's
from walle_task.cv.contours import approxPolyDP, arcLength, boundingRect, contourArea, findContours
from walle_task.cv.drawing import circle, drawContours, fillPoly, line, polylines, rectangle
from walle_task.cv.files import imdecode, imencode
from walle_task.cv.filters import (
    Canny,
    GaussianBlur,
    Laplacian,
    Scharr,
    Sobel,
    blur,
    boxFilter,
    filter2D,
    getDerivKernels,
    getGaussianKernel,
    medianBlur,
    sepFilter2D,
)
from walle_task.cv.geometry import (
    copyMakeBorder,
    flip,
    getAffineTransform,
    getPerspectiveTransform,
    getRectSubPix,
    getRotationMatrix2D,
    invertAffineTransform,
    perspectiveTransform,
    remap,
    resize,
    rotate,
    transform,
    transpose,
    warpAffine,
    warpPerspective,
)
from walle_task.cv.morphology import dilate, erode, getStructuringElement, morphologyEx
from walle_task.cv.tensors import to_tensor

__all__ = [
    "Canny",
    "GaussianBlur",
    "LUT",
    "Laplacian",
    "Scharr",
    "Sobel",
    "absdiff",
    "adaptiveThreshold",
    "add",
    "addWeighted",
    "approxPolyDP",
    "arcLength",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "blur",
    "boundingRect",
    "boxFilter",
    "calcHist",
    "circle",
    "contourArea",
    "convertScaleAbs",
    "convertTo",
    "copyMakeBorder",
    "countNonZero",
    "cvtColor",
    "dilate",
    "drawContours",
    "equalizeHist",
    "erode",
    "fillPoly",
    "filter2D",
    "findContours",
    "flip",
    "getAffineTransform",
    "getDerivKernels",
    "getGaussianKernel",
    "getNumThreads",
    "getPerspectiveTransform",
    "getRectSubPix",
    "getRotationMatrix2D",
    "getStructuringElement",
    "imdecode",
    "imencode",
    "inRange",
    "integral",
    "invertAffineTransform",
    "line",
    "max",
    "mean",
    "meanStdDev",
    "medianBlur",
    "merge",
    "min",
    "minMaxLoc",
    "morphologyEx",
    "norm",
    "normalize",
    "perspectiveTransform",
    "polylines",
    "rectangle",
    "remap",
    "resize",
    "rotate",
    "sepFilter2D",
    "setNumThreads",
    "split",
    "subtract",
    "sumElems",
    "threshold",
    "to_tensor",
    "transform",
    "transpose",
    "warpAffine",
    "warpPerspective",
]
