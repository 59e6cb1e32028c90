"""walle_task.cv beside OpenCV: the common functions on images of 1080 x 1920 and of 224 x 224."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import cv2
import numpy as np

from measuring import interleave
from reporting import Cell, Grid, Report
from walle_task import cv

SECTION = "cv"
SIZES = {"1080p": (1080, 1920), "224": (224, 224)}
THREADS = (1, 2)

type Call = Callable[[Any, Any, Any], object]

# Each takes the module, an image of three channels and a grey one.
FUNCTIONS: dict[str, Call] = {
    "resize linear to a half less 3": lambda m, c, g: m.resize(c, (c.shape[1] // 2 - 3, c.shape[0] // 2 - 3)),
    "resize linear x 1.5": lambda m, c, g: m.resize(c, None, fx=1.5, fy=1.5),
    "resize area to a third": lambda m, c, g: m.resize(c, None, fx=1 / 3, fy=1 / 3, interpolation=3),
    "resize nearest": lambda m, c, g: m.resize(c, (300, 300), interpolation=0),
    "warpAffine": lambda m, c, g: m.warpAffine(c, MATRIX, (c.shape[1], c.shape[0])),
    "warpPerspective": lambda m, c, g: m.warpPerspective(c, PERSPECTIVE, (c.shape[1], c.shape[0])),
    "BGR to grey": lambda m, c, g: m.cvtColor(c, m.COLOR_BGR2GRAY),
    "BGR to HSV": lambda m, c, g: m.cvtColor(c, m.COLOR_BGR2HSV),
    "BGR to YCrCb": lambda m, c, g: m.cvtColor(c, m.COLOR_BGR2YCrCb),
    "NV21 to BGR": lambda m, c, g: m.cvtColor(g[: g.shape[0] // 6 * 6], m.COLOR_YUV2BGR_NV21),
    "GaussianBlur 3": lambda m, c, g: m.GaussianBlur(c, (3, 3), 0),
    "GaussianBlur 5": lambda m, c, g: m.GaussianBlur(c, (5, 5), 0),
    "GaussianBlur 7": lambda m, c, g: m.GaussianBlur(c, (7, 7), 0),
    "blur 5": lambda m, c, g: m.blur(c, (5, 5)),
    "blur 31": lambda m, c, g: m.blur(g, (31, 31)),
    "medianBlur 3": lambda m, c, g: m.medianBlur(c, 3),
    "medianBlur 5": lambda m, c, g: m.medianBlur(c, 5),
    "medianBlur 9": lambda m, c, g: m.medianBlur(g, 9),
    "filter2D 3": lambda m, c, g: m.filter2D(c, -1, KERNEL),
    "filter2D 3, fractions": lambda m, c, g: m.filter2D(c, -1, FRACTIONS),
    "sepFilter2D 3, fractions": lambda m, c, g: m.sepFilter2D(c, -1, FRACTIONS[0], FRACTIONS[1]),
    "Sobel": lambda m, c, g: m.Sobel(g, m.CV_16S, 1, 0),
    "Laplacian": lambda m, c, g: m.Laplacian(g, m.CV_16S),
    "Canny": lambda m, c, g: m.Canny(g, 60, 150),
    "Canny, colour": lambda m, c, g: m.Canny(c, 60, 150),
    "erode 3": lambda m, c, g: m.erode(c, None),
    "dilate 9": lambda m, c, g: m.dilate(g, ELEMENT),
    "dilate 31": lambda m, c, g: m.dilate(g, LARGE),
    "dilate an ellipse of 7": lambda m, c, g: m.dilate(g, ELLIPSE),
    "threshold": lambda m, c, g: m.threshold(g, 100, 255, m.THRESH_BINARY),
    "adaptiveThreshold": lambda m, c, g: m.adaptiveThreshold(g, 255, 0, 0, 11, 2),
    "addWeighted": lambda m, c, g: m.addWeighted(c, 0.4, c, 0.6, 3),
    "absdiff": lambda m, c, g: m.absdiff(c, c),
    "add": lambda m, c, g: m.add(c, c),
    "bitwise_and": lambda m, c, g: m.bitwise_and(c, c),
    "convertScaleAbs": lambda m, c, g: m.convertScaleAbs(c, alpha=1.5, beta=-20),
    "LUT": lambda m, c, g: m.LUT(c, TABLE),
    "inRange": lambda m, c, g: m.inRange(c, (10, 20, 30), (200, 210, 220)),
    "split": lambda m, c, g: m.split(c),
    "flip": lambda m, c, g: m.flip(c, 1),
    "copyMakeBorder": lambda m, c, g: m.copyMakeBorder(c, 8, 8, 8, 8, m.BORDER_REFLECT_101),
    "integral": lambda m, c, g: m.integral(g),
    "mean": lambda m, c, g: m.mean(c),
    "minMaxLoc": lambda m, c, g: m.minMaxLoc(g),
    "countNonZero": lambda m, c, g: m.countNonZero(g),
    "Otsu's threshold": lambda m, c, g: m.threshold(g, 0, 255, m.THRESH_OTSU),
    "calcHist": lambda m, c, g: m.calcHist([g], [0], None, [256], [0, 256]),
    "equalizeHist": lambda m, c, g: m.equalizeHist(g),
    "findContours": lambda m, c, g: m.findContours(
        (g > 128).view(np.uint8), m.RETR_TREE, m.CHAIN_APPROX_SIMPLE
    ),
    "to a tensor of 224": lambda m, c, g: _to_tensor(m, c),
}
MATRIX = np.array([[0.9, 0.1, 5.0], [-0.1, 1.1, 2.0]])
PERSPECTIVE = np.array([[0.9, 0.1, 5.0], [-0.1, 1.1, 2.0], [1e-5, 2e-5, 1.0]])
KERNEL = np.array([[0.0, -1, 0], [-1, 5, -1], [0, -1, 0]])
FRACTIONS = np.array([[0.1, 0.2, 0.1], [0.2, 0.3, 0.15], [0.05, 0.1, 0.4]])
ELEMENT = np.ones((9, 9), np.uint8)
LARGE = np.ones((31, 31), np.uint8)
ELLIPSE = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
TABLE = np.arange(255, -1, -1, dtype=np.uint8)


def _to_tensor(module: Any, image: Any) -> object:
    """One call of ours; with OpenCV what everyone writes."""
    if module is cv:
        return cv.to_tensor(image, size=(224, 224), mean=0.5, std=0.25, swap_rb=True)
    small = cv2.cvtColor(cv2.resize(image, (224, 224)), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(((small.astype(np.float32) / 255 - 0.5) / 0.25).transpose(2, 0, 1)[None])


def run() -> Report:
    """Time each function of both in turns."""
    random = np.random.default_rng(1)
    report = Report()
    for threads in THREADS:
        cv.setNumThreads(threads)
        cv2.setNumThreads(threads)
        grid = Grid(SECTION, f"OpenCV's time over ours, {threads} thread{'s' * (threads > 1)}", "x")
        for size, shape in SIZES.items():
            noise = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
            color = cv2.GaussianBlur(noise, (0, 0), 3) * 2  # not flat, not noise
            grey = np.ascontiguousarray(color[..., 1])
            for name, call in FUNCTIONS.items():
                contestants = {
                    "ours": partial(call, cv, color, grey),
                    "opencv": partial(call, cv2, color, grey),
                }
                times = interleave(contestants, turns=7, turn_s=0.02)
                ours, theirs = times["ours"].median_s, times["opencv"].median_s
                grid.put(name, size, Cell(theirs / ours, text=f"{ours * 1e6:.0f} µs"))
        report.grids.append(grid)
    cv.setNumThreads(0)
    cv2.setNumThreads(-1)
    return report
