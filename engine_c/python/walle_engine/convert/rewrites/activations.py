"""Activations that exporters spell out: GELU, Swish (SiLU), hard Swish, Mish."""

from __future__ import annotations

import math

from walle_engine import wmodel
from walle_engine.convert.rewrites.index import Index
from walle_engine.convert.rewrites.patterns import (
    Match,
    Pattern,
    either,
    number,
    op,
    product,
    scalar,
    scaled,
    value,
)
from walle_engine.convert.rewrites.row import Builder, Built, Rewrite

_X = value("x")


def _half_of_x_times(factor: Pattern) -> Pattern:
    """``0.5 x (1 + factor)``."""
    raised = op("Add", factor, number(1))
    halved = op("Div", _X, number(2))
    return either(
        product(_X, raised, number(0.5)),
        op("Mul", halved, raised),
        op("Div", op("Mul", _X, raised), number(2)),
        # 0.5 (1 + factor) as a whole
        op("Mul", _X, either(scaled(raised, 0.5), op("Add", scaled(factor, 0.5), number(0.5)))),
    )


def _cube() -> Pattern:
    return either(op("Pow", _X, number(3)), product(_X, _X, _X))


_GELU_ERF = _half_of_x_times(op("Erf", scaled(_X, math.sqrt(0.5))))

# Source: Hendrycks and Gimpel, Gaussian Error Linear Units, section 2.
_CUBIC, _ROOT = number(0.044715), math.sqrt(2 / math.pi)
_SQUARED = either(op("Pow", _X, number(2)), op("Mul", _X, _X))
_GELU_TANH = _half_of_x_times(
    op(
        "Tanh",
        either(
            scaled(op("Add", _X, either(op("Mul", _CUBIC, _cube()), product(_X, _SQUARED, _CUBIC))), _ROOT),
            # x (1 + c x^2), factored
            product(_X, number(_ROOT), op("Add", number(1), product(_X, _X, _CUBIC))),
            product(_X, number(_ROOT), op("Add", number(1), op("Mul", _SQUARED, _CUBIC))),
            op("Mul", _X, op("Add", number(_ROOT), op("Mul", _SQUARED, number(_ROOT * 0.044715)))),
        ),
    )
)

_RELU6 = op("Clip", op("Add", _X, number(3)), number(0), number(6))
_SIXTH = 1 / 6


def _on_x(op_name: str, **attributes: wmodel.Attribute) -> Builder:
    """A builder of one operator on ``x``."""

    def build(index: Index, match: Match) -> Built:
        x = match.values["x"]
        # A constant of more dims than x would have spread it.
        if index.rank(x) is None or index.rank(x) != index.rank(match.output):
            return None
        return [wmodel.Node(op_name, match.root.name, (x,), match.root.outputs, attributes)]

    return build


def _swish(index: Index, match: Match) -> Built:
    alpha = index.constant(match.values["alpha"])
    return None if alpha is None else _on_x("Swish", alpha=float(alpha.reshape(-1)[0]))(index, match)


def _hard_swish(index: Index, match: Match) -> Built:
    gate = match.nodes["gate"]
    alpha, beta = gate.attrs.get("alpha", 0.2), gate.attrs.get("beta", 0.5)
    assert isinstance(alpha, (int, float))
    if not math.isclose(alpha, _SIXTH, rel_tol=1e-6) or beta != 0.5:
        return None
    return _on_x("HardSwish")(index, match)


ROWS = (
    Rewrite("gelu", _GELU_ERF, _on_x("Gelu")),
    Rewrite("gelu", _GELU_TANH, _on_x("Gelu", approximate="tanh")),
    Rewrite("swish", op("Mul", _X, op("Sigmoid", _X)), _on_x("Swish")),
    Rewrite("swish", op("Mul", _X, op("Sigmoid", op("Mul", _X, scalar("alpha")))), _swish),
    Rewrite(
        "hard_swish",
        either(product(_X, _RELU6, number(_SIXTH)), scaled(op("Mul", _X, _RELU6), _SIXTH)),
        _on_x("HardSwish"),
    ),
    Rewrite("hard_swish", op("Mul", _X, op("Div", _RELU6, number(6))), _on_x("HardSwish")),
    Rewrite("hard_swish", op("Mul", _X, op("HardSigmoid", _X, name="gate")), _hard_swish),
    Rewrite("mish", op("Mul", _X, op("Tanh", op("Softplus", _X))), _on_x("Mish")),
)
