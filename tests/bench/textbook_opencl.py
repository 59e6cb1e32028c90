"""A product of the textbook on an OpenCL device: square tiles in local memory, one result a work item.

Called through ctypes, so that the library is all it needs. Source: NVIDIA, "OpenCL Best Practices Guide", the
coalesced product with shared tiles; here for any sizes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

_SOURCE = b"""
kernel __attribute__((reqd_work_group_size(TILE, TILE, 1))) void product(
    int m, int n, int k, global const float *a, global const float *b, global float *c) {
    local float ta[TILE][TILE], tb[TILE][TILE];
    int x = get_local_id(0), y = get_local_id(1), column = get_global_id(0), row = get_global_id(1);
    float sum = 0;
    for (int first = 0; first < k; first += TILE) {
        ta[y][x] = row < m && first + x < k ? a[row * k + first + x] : 0;
        tb[y][x] = column < n && first + y < k ? b[(first + y) * n + column] : 0;
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int i = 0; i < TILE; i++)
            sum += ta[y][i] * tb[i][x];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (row < m && column < n)
        c[row * n + column] = sum;
}
"""
_TYPES = (1 << 2, 1 << 3, 1 << 1)  # GPUs first, as walle_engine.api.devices() has them
_READ_WRITE = ctypes.c_uint64(1)
TILES = (16, 32)


class Textbook:
    """The kernel with tiles of one size, built for the device of that number."""

    def __init__(self, number: int, tile: int) -> None:
        self._tile = tile
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
        options = f"-DTILE={tile}".encode()
        self._do("clBuildProgram", program, 1, ctypes.byref(device), options, None, None)
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

    def product(self, m: int, n: int, k: int) -> Callable[[], None]:
        """What makes one product of m x k and k x n, and waits; what is in the operands is left open."""
        code = ctypes.byref(ctypes.c_int())
        buffers = [
            ctypes.c_void_p(
                self._cl.clCreateBuffer(self._context, _READ_WRITE, ctypes.c_size_t(4 * count), None, code)
            )
            for count in (m * k, k * n, m * n)
        ]
        arguments = [*map(ctypes.c_int, (m, n, k)), *buffers]
        for index, value in enumerate(arguments):
            size = ctypes.c_size_t(ctypes.sizeof(value))
            self._do("clSetKernelArg", self._kernel, index, size, ctypes.byref(value))
        whole = (ctypes.c_size_t * 2)(*(-(-count // self._tile) * self._tile for count in (n, m)))
        group = (ctypes.c_size_t * 2)(self._tile, self._tile)

        def run() -> None:
            self._do(
                "clEnqueueNDRangeKernel", self._queue, self._kernel, 2, None, whole, group, 0, None, None
            )
            self._do("clFinish", self._queue)

        return run
