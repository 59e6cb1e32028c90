"""Training that knows of codes: it rounds what the quantised model rounds, and gains back what was lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from walle_engine import api, train, wmodel
from walle_engine.compress import FineTuning, Samples, quantize, read_draft, report_on, to_model
from walle_engine.compress.finetuning import float_form
from walle_engine.compress.source import watching, write
from walle_engine.convert.draft import Draft
from walle_engine.train.codes import covered, moved, with_codes
from walle_engine.train.sheet import Sheet
from walle_shared.errors import ModelError


def _tuning(source: Any, calibration: Any, bits: int, **how: Any) -> FineTuning:
    return FineTuning(
        source, calibration, train.CrossEntropy("logits"), train.Adam(5e-4), weight_bits=bits, **how
    )


@pytest.fixture
def batch(scans: Any) -> dict[str, Any]:
    images, labels = scans
    return {"image": images[:64], "target": labels[:64].astype(np.int64)}


@pytest.mark.parametrize("bits", [8, 3])
def test_values_are_those_of_the_quantized_model(digits: Draft, calibration: Samples, bits: int) -> None:
    tuning = _tuning(digits, calibration, bits)
    trainer = tuning.trainer
    codes = trainer._codes
    assert codes is not None
    sheet = Sheet("F32")
    graph = digits.to_graph()
    nodes, scalars = with_codes(graph, graph.nodes, codes, sheet)
    fed = [name for one in scalars.values() for name in (one.low, one.high, one.scale)]
    rounded = replace(
        graph,
        nodes=tuple(nodes),
        inputs=(*graph.inputs, *(wmodel.Value(name, "F32", ()) for name in fed)),
        outputs=(wmodel.Value("logits", "", None),),
    )
    data = wmodel.to_bytes(rounded, {**digits.weights_to_store(), **sheet.weights})
    batch = calibration.batches[0]
    ours = api.load_bytes(data).session().run({**batch, **trainer._range_numbers()})["logits"]
    made = quantize(digits, calibration, weight_bits=bits)
    theirs = watching(made.draft, ["logits"]).session().run(batch)["logits"]
    apart = np.abs(np.asarray(ours) - np.asarray(theirs)) / made.scales["logits"].scale
    # Biases are not rounded here, and a tie may fall the other way: then it is the next code.
    assert np.mean(apart > 0.01) < 0.2
    assert apart.max() < 1.01 * (1 if bits == 8 else 3)


def test_gradients_stop_where_codes_end_and_pass_elsewhere(make_draft: Any) -> None:
    draft = make_draft(
        [("MatMul", "fc", ("x", "w"), ("y",))],
        {"x": ("N", 3)}, {"y": ("N", 3)}, {"w": np.diag(np.float32([1, 1, 1]))},
    )  # fmt: skip
    tuning = FineTuning(
        draft, {"x": np.float32([[1, 1, 1]])}, train.MeanSquaredError(), train.SGD(0.3), momentum=1.0
    )
    x = np.float32([[0.5, 0.9, 0]])  # and outputs up to 1
    tuning.step({"x": x, "target": np.zeros((1, 3), np.float32)})
    moved_by = np.asarray(tuning.trainer.parameters["w"]) - np.eye(3, dtype=np.float32)
    # d mean((x w)^2) = 2 / 3 x^T y, as if nothing were rounded
    np.testing.assert_allclose(moved_by, -0.3 * 2 / 3 * x.T @ x, atol=2e-3)
    far = FineTuning(
        draft, {"x": np.float32([[1, 1, 1]])}, train.MeanSquaredError(), train.SGD(0.3), momentum=1.0
    )
    far.step({"x": np.float32([[3, 3, 3]]), "target": np.zeros((1, 3), np.float32)})
    # inputs are cut to 1, and so are outputs at their end exactly: of those the first operand has it
    assert np.asarray(far.trainer.parameters["w"])[0, 0] < 1


def test_training_gains_back_what_few_bits_lose(
    digits: Draft, calibration: Samples, heldout: Samples
) -> None:
    data = load_digits()
    seen = {image.tobytes() for part in heldout.batches for image in part["image"]}
    images = data.images.astype(np.float32)[:, None]
    fresh = [i for i, image in enumerate(images) if image.tobytes() not in seen]
    rng, tuning = np.random.default_rng(0), _tuning(digits, calibration, 2)
    for _ in range(25):
        rows = rng.choice(fresh, 64, replace=False)
        tuning.step({"image": images[rows], "target": data.target[rows].astype(np.int64)})
    rounded = quantize(digits, calibration, weight_bits=2)
    before, after = (
        report_on(digits, made.draft, heldout, timed=False).task for made in (rounded, tuning.quantized())
    )
    assert before is not None
    assert after is not None
    assert before.compressed < 0.6
    assert after.compressed > 0.8


def test_it_goes_on_from_a_quantized_model(
    digits: Draft, calibration: Samples, batch: dict[str, Any], tmp_path: Any
) -> None:
    write(quantize(digits, calibration, weight_bits=4).draft, tmp_path / "four.wmodel")
    again = float_form(read_draft(tmp_path / "four.wmodel"))
    assert {node.op for node in again.nodes} == {node.op for node in digits.nodes}
    tuning = _tuning(tmp_path / "four.wmodel", calibration, 4)
    first = _tuning(digits, calibration, 4).step(batch)
    assert tuning.step(batch) == pytest.approx(first, rel=0.2, abs=1e-3)
    assert tuning.quantized().layers == ("conv1", "conv2", "fc1", "fc2")


def test_ranges_follow_what_is_seen_and_are_kept(
    digits: Draft, calibration: Samples, batch: dict[str, Any], tmp_path: Any
) -> None:
    tuning = _tuning(digits, calibration, 8, momentum=0.5)
    before = dict(tuning.trainer.ranges)
    tuning.step({**batch, "image": 2 * batch["image"]})
    low, high = tuning.trainer.ranges["scaled"]
    assert low == before["scaled"][0]
    assert high == pytest.approx(0.5 * before["scaled"][1] + 0.5 * 2 * batch["image"].max() / 16)
    checkpoint = tuning.trainer.checkpoint()
    assert sum(map(len, checkpoint.values())) == tuning.trainer.changed_bytes
    other = _tuning(digits, calibration, 8).trainer
    other.restore(checkpoint, 1)
    assert other.ranges == tuning.trainer.ranges
    tuning.trainer.save(tmp_path / "tuned.wmodel")
    codes = train.Codes(values={"scaled": "scaled"}, ranges={"scaled": (0.0, 1.0)})
    again = train.Trainer(
        tmp_path / "tuned.wmodel", train.CrossEntropy("logits"), train.Adam(1e-3), codes=codes
    )
    assert again.ranges["scaled"] == (low, high)


def test_cells_train_with_codes(make_draft: Any) -> None:
    rng = np.random.default_rng(0)
    draft = make_draft(
        [
            ("GRU", "gru", ("steps", "w", "r"), ("", "last"), {"hidden_size": 8}),
            ("Squeeze", "flat", ("last", "first"), ("state",)),
            ("Gemm", "head", ("state", "h"), ("y",)),
        ],
        {"steps": (5, "N", 4)}, {"y": ("N", 1)},
        {"w": rng.standard_normal((1, 24, 4)).astype("f4"), "r": rng.standard_normal((1, 24, 8)).astype("f4"),
         "h": rng.standard_normal((8, 1)).astype("f4"), "first": np.array([0])},
    )  # fmt: skip
    x, target = rng.standard_normal((5, 20, 4)).astype("f4"), rng.random((20, 1)).astype("f4")
    tuning = FineTuning(draft, {"steps": x}, train.MeanSquaredError(), train.Adam(0.02), weight_bits=3)
    losses = [tuning.step({"steps": x, "target": target}) for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
    made = tuning.quantized()
    assert made.layers == ("head", "gru")
    y = np.asarray(to_model(made.draft).session().run({"steps": x})["y"])
    assert np.mean((y - target) ** 2) == pytest.approx(losses[-1], rel=0.3, abs=5e-3)


def test_what_cannot_be_tuned(digits: Draft, calibration: Samples) -> None:
    with pytest.raises(ModelError, match="weights of 1 bits"):
        _tuning(digits, calibration, 1)
    with pytest.raises(ModelError, match="no output 'loss'"):
        FineTuning(digits, calibration, train.OwnLoss("loss"), train.Adam(1e-3))
    for codes, words in (
        (train.Codes(values={"z": "z"}, ranges={"z": (0, 1)}), "no value 'z'"),
        (train.Codes(values={"a1": "z"}), "value 'a1' has no range 'z'"),
    ):
        with pytest.raises(ModelError, match=words):
            _trainer_of(digits, codes)


def _trainer_of(draft: Draft, codes: train.Codes) -> train.Trainer:
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        write(draft, Path(folder) / "m.wmodel")
        return train.Trainer(Path(folder) / "m.wmodel", train.CrossEntropy(), train.Adam(1e-3), codes=codes)


def test_ranges_by_hand() -> None:
    low, high, scale = covered((-1.0, 2.0), 8)
    assert scale == 3 / 255
    assert (low, high) == pytest.approx((-1, 2), abs=scale / 2)
    assert round(low / scale) == low / scale
    assert covered((1.0, 2.0), 8)[0] == 0
    assert moved((0, 1), [-1.0], [3.0], 0.5) == (-0.5, 2)
    assert moved((0, 1), [float("nan")], [3.0], 0.5) == (0, 1)
