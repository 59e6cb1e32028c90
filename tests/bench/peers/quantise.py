"""Write a network in the form of quantised models, by ONNX Runtime's own tool: MODEL INPUTS OUT.

Activations are uint8 for each tensor, weights int8 for each output channel.
"""

import sys

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

CALIBRATING = 4


class Reader(CalibrationDataReader):
    """The network's own inputs, then random ones like them."""

    def __init__(self, path):
        with np.load(path) as arrays:
            self._first = dict(arrays)
        self._given = 0

    def get_next(self):
        """One set of inputs, None after the last."""
        self._given += 1
        rng = np.random.default_rng(self._given)
        if self._given == 1:
            return self._first
        if self._given > CALIBRATING:
            return None
        return {
            name: rng.normal(x.mean(), x.std(), x.shape).astype(x.dtype) for name, x in self._first.items()
        }


model, inputs, out = sys.argv[1:]
quantize_static(
    model,
    out,
    Reader(inputs),
    quant_format=QuantFormat.QDQ,
    per_channel=True,
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
)
