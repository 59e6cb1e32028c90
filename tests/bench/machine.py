"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path


def facts() -> dict[str, object]:
    """Processor, cores, kernel, Python, load and the versions of whatever is compared."""
    packages = ("walle", "onnxruntime", "numpy", "trio", "starlette", "hypercorn")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "isa": sorted(_cpu_flags() & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd"}),
        "kernel": platform.release().partition("-")[0],
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
        "versions": {name: _version(name) for name in packages},
    }


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.machine()


def _cpu_flags() -> set[str]:
    return set((_cpuinfo("flags") or _cpuinfo("Features")).split())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
