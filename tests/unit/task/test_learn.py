"""What a script does to take part: with the real engine, and a host that is none."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from walle_control.features.learning.updates import check, decode
from walle_shared.errors import EngineError, LimitExceeded, ModelError, NotAllowed
from walle_shared.learning import UPDATE_RECORD, RoundTerms, UpdatePart
from walle_shared.records import from_plain
from walle_support.learning import write_digits_model
from walle_task import learn, model
from walle_task.testing import ALL_CAPABILITIES, fake_host

SIZE = 1210
LEARNING = {"model": "digits", "table": "samples", "min_samples": 5}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    write_digits_model(tmp_path / "model" / "digits.wmodel")
    return tmp_path


def digits(count: int) -> list[dict[str, Any]]:
    data = load_digits()
    return [{"pixels": (data.data[i] / 16).tolist(), "label": int(data.target[i])} for i in range(count)]


def batch(rows: list[dict[str, Any]]) -> dict[str, object]:
    return {"image": [row["pixels"] for row in rows], "target": [row["label"] for row in rows]}


def host(bundle: Path, rows: int = 40, **more: Any) -> Any:
    more = {"learning": LEARNING, "learning_round": {}, "output_bytes": 1 << 20, **more}
    return fake_host(bundle_dir=bundle, tables={"samples": digits(rows)}, **more)


def sent(uploads: list[dict[str, Any]]) -> tuple[list[UpdatePart], np.ndarray]:
    assert {each["name"] for each in uploads} == {UPDATE_RECORD}
    parts = [from_plain(UpdatePart, each["fields"]) for each in uploads]
    body = b"".join(base64.b64decode(part.body) for part in parts)
    return parts, decode(body, parts[0].encoding, SIZE)


def test_what_was_learnt_is_sent_clipped(bundle: Path):
    with host(bundle, learning_round={"clip_norm": 0.01, "epochs": 3, "encoding": "f32"}) as fake:
        given = learn.contribute(batch)
    assert given is not None
    assert given.clipped
    assert given.samples == 40
    assert len(given.losses) == 9
    assert sum(given.losses[6:]) < sum(given.losses[:3])
    parts, vector = sent(fake.uploads)
    assert (parts[0].plan, parts[0].round, parts[0].samples) == ("fake", 1, 40)
    check(vector, RoundTerms(clip_norm=0.01))
    assert np.linalg.norm(vector) == pytest.approx(0.01, rel=1e-4)


def test_the_gradient_is_that_of_the_mean_loss(bundle: Path):
    terms = {"sends": "gradient", "clip_norm": 100.0, "encoding": "f32", "batch": 7, "rate": 1e-2}
    with host(bundle, learning_round=terms) as fake:
        assert learn.contribute(batch) is not None
    _, in_parts = sent(fake.uploads)
    with host(bundle, learning_round={**terms, "sends": "update", "batch": 40}) as fake:
        assert learn.contribute(batch) is not None
    _, step = sent(fake.uploads)
    np.testing.assert_allclose(in_parts, step / 1e-2, atol=2e-3 * np.abs(in_parts).max())


def test_too_few_samples_or_no_round_send_nothing(bundle: Path):
    with host(bundle, rows=4) as fake:
        assert learn.contribute(batch) is None
    with host(bundle, learning_round=None) as fake:
        assert learn.contribute(batch) is None
    assert fake.uploads == []


def test_an_update_that_is_not_finite_stays(bundle: Path):
    def broken(rows: list[dict[str, Any]]) -> dict[str, object]:
        return {"image": [[float("inf")] * 64 for _ in rows], "target": [0 for _ in rows]}

    with host(bundle) as fake:
        assert learn.contribute(broken) is None
    assert fake.uploads == []
    assert "not finite" in fake.logs[0]["message"]


def test_errors_name_what_is_wrong(bundle: Path):
    with host(bundle), pytest.raises(EngineError, match="target"):
        learn.contribute(lambda rows: {"image": batch(rows)["image"]})
    with host(bundle, output_bytes=1_000), pytest.raises(LimitExceeded, match=r"limits\.output_bytes"):
        learn.contribute(batch)
    with host(bundle, capabilities=ALL_CAPABILITIES - {"learn"}), pytest.raises(NotAllowed, match="learn"):
        learn.contribute(batch)
    with host(bundle, capabilities=ALL_CAPABILITIES - {"tunnel"}), pytest.raises(NotAllowed, match="tunnel"):
        learn.contribute(batch)


def test_a_round_of_other_weights_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    with host(bundle) as fake:
        offer = fake.context.ask("learn.round", {})
        offer["parameters"] = offer["parameters"][1:]
        monkeypatch.setattr(fake.context, "_call", lambda name, args: offer)
        with pytest.raises(ModelError, match="other weights"):
            learn._trainer_of(fake.context, offer)


def test_a_model_of_ones_own_comes_back_from_its_backup(bundle: Path):
    backed = {**LEARNING, "backup": True}
    with host(bundle, learning=backed) as fake:
        assert not learn.back_up()  # there is none yet
        learn.personalise(batch, steps=20, seconds=10.0, rate=0.3)
    with host(bundle, learning=backed, values=fake.values) as again:
        own = learn.personal().run({"image": batch(digits(9))["image"]})["scores"].tolist()
        assert learn.back_up()
    fields = [each["fields"] for each in again.uploads]
    assert [each["part"] for each in fields] == list(range(len(fields)))
    (bundle / "own").mkdir()
    (bundle / "own" / "personal.bin").write_bytes(b"".join(base64.b64decode(f["body"]) for f in fields))
    with host(bundle, learning=backed) as fresh:  # an empty store
        assert learn.personal().run({"image": batch(digits(9))["image"]})["scores"].tolist() == own
        more = learn.personalise(batch, steps=5, seconds=10.0)
    assert more is not None
    assert more.steps == 25
    assert fresh.values
    with host(bundle, learning=LEARNING):  # not allowed: neither sent nor taken
        assert not learn.back_up()
        assert learn.personal().run({"image": batch(digits(9))["image"]})["scores"].tolist() != own
    for damaged in (
        b"",
        b"{}\n",
        b'{"model": 1}\nxx',
        b"\xff" * 99,
        (bundle / "own/personal.bin").read_bytes()[:-1],
    ):
        (bundle / "own" / "personal.bin").write_bytes(damaged)
        with host(bundle, learning=backed):
            assert learn.personal().run({"image": batch(digits(9))["image"]})["scores"].tolist() != own


def test_samples_are_kept_and_sent_only_where_that_is_said(bundle: Path):
    sample = {"pixels": [0.0], "label": 1}
    with host(bundle) as fake:
        learn.keep(sample)
        assert learn.samples(1) == [sample]
    assert fake.rows == [{"table": "samples", "row": sample}]
    assert fake.uploads == []
    with host(bundle, learning={**LEARNING, "upload_samples": True}) as fake:
        learn.keep(sample)
    assert fake.uploads == [{"name": "samples", "fields": sample}]


def test_a_model_of_ones_own_goes_on_and_ends_with_its_base(bundle: Path):
    def right(of: model.Model) -> int:
        scores = of.run({"image": batch(digits(40))["image"]})["scores"].tolist()
        return sum(row.index(max(row)) == each["label"] for row, each in zip(scores, digits(40), strict=True))

    with host(bundle) as fake:
        shared = right(learn.personal())
        first = learn.personalise(batch, steps=30, seconds=10.0, rate=0.3)
    with host(bundle, values=fake.values) as again:
        assert right(learn.personal()) > shared + 10
        second = learn.personalise(batch, steps=10, seconds=10.0, rate=0.3)
    assert first is not None
    assert second is not None
    assert (first.steps, second.steps) == (30, 40)
    write_digits_model(bundle / "model" / "digits.wmodel", seed=1)  # another version's
    with host(bundle, values=again.values):
        fresh = right(learn.personal())
    with host(bundle):
        assert fresh == right(learn.personal())
    with host(bundle, rows=2):
        assert learn.personalise(batch, steps=1, seconds=1.0) is None
