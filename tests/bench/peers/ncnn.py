"""ncnn in float32; ``prepare`` converts with pnnx, from ONNX or, where that fails, by way of TorchScript."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

DISTRIBUTION = "ncnn"


def prepare(job: Mapping[str, Any]) -> None:
    """Convert the model, unless an earlier run did."""
    folder = _folder(job)
    if (folder / "model.ncnn.param").exists():
        return
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(Path(job["model"]).read_bytes())
    _convert(folder, "model.onnx")
    if not (folder / "model.ncnn.param").exists():
        sys.path.append(str(Path(__file__).parent))
        import pytorch

        pytorch.save_traced(job, folder / "model.pt")
        shapes = ",".join(pytorch.shape_and_type(value) for value in job["inputs"].values())
        _convert(folder, "model.pt", f"inputshape={shapes}")
        if not (folder / "model.ncnn.param").exists():
            raise RuntimeError("pnnx cannot convert this model")
        _drop_casts(folder / "model.ncnn.param")


def _convert(folder: Path, name: str, *options: str) -> None:
    program = Path(sys.executable).parent / "pnnx"
    subprocess.run(
        [program, name, "fp16=0", *options], cwd=folder, check=False, stdout=sys.stderr, timeout=300
    )


def _drop_casts(param: Path) -> None:
    """Turn the casts that pnnx left into nothing: ``load`` feeds floats to all but embeddings."""
    param.write_text(re.sub(r"(?m)^Tensor\.to ", "Noop ", param.read_text()))


def load(job: Mapping[str, Any]) -> Callable[[], Sequence[object]]:
    """Load the converted model; feed it the way the script that pnnx wrote beside it does."""
    folder = _folder(job)
    net = ncnn.Net()
    net.opt.num_threads = job["threads"]
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(folder / "model.ncnn.param")) or net.load_model(str(folder / "model.ncnn.bin")):
        raise RuntimeError("ncnn refuses what pnnx wrote: it left operators that ncnn does not have")
    script = (folder / "model_ncnn.py").read_text()
    looked_up = set(_LOOKED_UP.findall((folder / "model.ncnn.param").read_text()))
    feeds = []
    for (name, index), value in zip(_FEED.findall(script), job["inputs"].values(), strict=True):
        array = value.astype(np.int32 if name in looked_up else np.float32)
        feeds.append((name, ncnn.Mat(array, batch_index=int(index)).clone()))
    wanted = [(name, int(index)) for name, index in _FETCH.findall(script)]

    def run() -> Sequence[object]:
        with net.create_extractor() as extractor:
            for name, mat in feeds:
                extractor.input(name, mat)
            return [extractor.extract(name)[1].numpy(batch_index=index) for name, index in wanted]

    return run


_FEED = re.compile(r'ex\.input\("(\w+)", ncnn\.Mat\(\w+\.numpy\(\), batch_index=(\d+)\)')
_LOOKED_UP = re.compile(r"(?m)^Embed +\S+ +1 +1 +(\w+)")
_FETCH = re.compile(r"torch\.from_numpy\((\w+)\.numpy\(batch_index=(\d+)\)\)")


def _folder(job: Mapping[str, Any]) -> Path:
    return Path(job["folder"]) / "ncnn"
