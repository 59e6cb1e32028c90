"""A product of the textbook on an OpenCL device: 16 x 16 tiles in local memory, one result a work item.

Called through ctypes, so that the library is all it needs. Source: NVIDIA, "OpenCL Best Practices Guide", the
coalesced product with shared tiles.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from typing import Any

_SOURCE = b"""
kernel __attribute__((reqd_work_group_size(16, 16, 1))) void product(int n, global const float *a,
                                                                    global const float *b, global float *c) {
    local float ta[16][16], tb[16][16];
    int x = get_local_id(0), y = get_local_id(1), column = get_global_id(0), row = get_global_id(1);
    float sum = 0;
    for (int k = 0; k < n; k += 16) {
        ta[y][x] = a[row * n + k + x];
        tb[y][x] = b[(k + y) * n + column];
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = 0; i < 16; i++)
            sum += ta[y][i] * tb[i][x];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    c[row * n + column] = sum;
}
"""
_TYPES = (1 << 2, 1 << 3, 1 << 1)  # GPUs first, as walle_engine.api.devices() has them
_CALLS = 5


class Textbook:
    """The kernel, built for the device of that number."""

    def __init__(self, number: int) -> None:
        self._cl = ctypes.CDLL("libOpenCL.so.1")
        for name in (
            "CreateContext",
            "CreateCommandQueue",
            "CreateProgramWithSource",
            "CreateKernel",
            "CreateBuffer",
        ):
            getattr(self._cl, f"cl{name}").restype = ctypes.c_void_p
        device = ctypes.c_void_p(self._devices()[number])
        code = ctypes.byref(ctypes.c_int())
        self._context = ctypes.c_void_p(
            self._cl.clCreateContext(None, 1, ctypes.byref(device), None, None, code)
        )
        self._queue = ctypes.c_void_p(
            self._cl.clCreateCommandQueue(self._context, device, ctypes.c_uint64(0), code)
        )
        text = ctypes.c_char_p(_SOURCE)
        program = ctypes.c_void_p(
            self._cl.clCreateProgramWithSource(self._context, 1, ctypes.byref(text), None, code)
        )
        self._do("clBuildProgram", program, 1, ctypes.byref(device), b"", None, None)
        self._kernel = ctypes.c_void_p(self._cl.clCreateKernel(program, b"product", code))

    def _do(self, name: str, *args: Any) -> None:
        if result := getattr(self._cl, name)(*args):
            raise RuntimeError(f"{name} gives {result}")

    def _devices(self) -> list[int]:
        platforms, count = (ctypes.c_void_p * 8)(), ctypes.c_uint32()
        self._do("clGetPlatformIDs", 8, platforms, ctypes.byref(count))
        found = []
        for kind in _TYPES:
            for platform in platforms[: count.value]:
                ids, devices = (ctypes.c_void_p * 16)(), ctypes.c_uint32()
                code = self._cl.clGetDeviceIDs(
                    ctypes.c_void_p(platform), ctypes.c_uint64(kind), 16, ids, ctypes.byref(devices)
                )
                found += ids[: devices.value] if code == 0 else []
        return found

    def median_s(self, n: int, turns: int = 7) -> float:
        """Seconds of a product of n x n, a multiple of 16, several in a row."""
        code, size = ctypes.byref(ctypes.c_int()), ctypes.c_size_t(4 * n * n)
        buffers = [
            ctypes.c_void_p(self._cl.clCreateBuffer(self._context, ctypes.c_uint64(1), size, None, code))
            for _ in range(3)
        ]
        extent = ctypes.c_int(n)
        self._do("clSetKernelArg", self._kernel, 0, ctypes.c_size_t(4), ctypes.byref(extent))
        for index, buffer in enumerate(buffers):
            self._do("clSetKernelArg", self._kernel, index + 1, ctypes.c_size_t(8), ctypes.byref(buffer))
        times = []
        for _ in range(turns + 1):
            start = time.perf_counter()
            for _ in range(_CALLS):
                self._launch(n)
            self._do("clFinish", self._queue)
            times.append((time.perf_counter() - start) / _CALLS)
        for buffer in buffers:
            self._do("clReleaseMemObject", buffer)
        return statistics.median(times[1:])

    def _launch(self, n: int) -> None:
        whole, group = (ctypes.c_size_t * 2)(n, n), (ctypes.c_size_t * 2)(16, 16)
        self._do("clEnqueueNDRangeKernel", self._queue, self._kernel, 2, None, whole, group, 0, None, None)
