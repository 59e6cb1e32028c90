"""Smaller models: 8-bit integers, narrow weights, and what they cost in accuracy.

::

    from walle_engine.compress import compress

    small = compress("digits.onnx", "calibration.npz", judge="heldout.npz", max_drop=0.01)
    print(small.report.task)  # accuracy before and after
    small.save("digits-int8.wmodel")

::

  float model ─► observe values on data ─► ranges ─► place codes ─► report ─► small enough a loss? ─► write
                 (ranges, histograms)      minmax    (QDQ form)     beside
                                           kl, percentile           float32

Needs the ``convert`` extra, as the converter does. A device runs what comes out and needs none of this.
"""

from walle_engine.compress.compressing import Compressed, compress
from walle_engine.compress.data import Samples, samples_of
from walle_engine.compress.exporting import to_onnx
from walle_engine.compress.finetuning import FineTuning
from walle_engine.compress.metrics import Difference
from walle_engine.compress.qdq import Quantized
from walle_engine.compress.quantizing import harm_of_layers, quantize
from walle_engine.compress.report import Report, Task, report_on
from walle_engine.compress.source import read_draft, to_bytes, to_model
from walle_engine.compress.storing import Narrowed, store
from walle_engine.compress.weights import Packed, quantize_weights

__all__ = [
    "Compressed",
    "Difference",
    "FineTuning",
    "Narrowed",
    "Packed",
    "Quantized",
    "Report",
    "Samples",
    "Task",
    "compress",
    "harm_of_layers",
    "quantize",
    "quantize_weights",
    "read_draft",
    "report_on",
    "samples_of",
    "store",
    "to_bytes",
    "to_model",
    "to_onnx",
]
