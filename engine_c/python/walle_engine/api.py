"""Typed calls into the C engine; the one module that touches ``ffi`` and ``lib``.

Every call releases the GIL while C runs. Handles are freed when the Python object goes.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike, fsencode
from typing import Any, Literal, NoReturn

from walle_engine import _native, calibration, kept, measured
from walle_engine._cffi import ffi, lib
from walle_engine.errors import error_for
from walle_engine.profile import Profile, Step
from walle_engine.tensor import FORMATS, PLAIN, Tensor, TextTensor, dense_view, text_view
from walle_shared.errors import ConfigError, EngineError

__all__ = [
    "BACKENDS", "DeviceInfo", "GraphBuilder", "KernelInfo", "Model", "OpInfo", "Session", "ValueInfo",
    "coverage", "devices", "isa", "isas", "kernels", "live_blocks", "load", "load_bytes", "ops",
]  # fmt: skip

#: What commands run on.
BACKENDS = ("cpu", "opencl")
Precision = Literal["highest", "high", "medium"]
Memory = Literal["any", "low"]
Search = Literal["model", "measure", "exhaustive", "reference"]
_MAX_RANK = 8
# Resolved once: cffi reads a type given as text anew at each call.
_ERROR, _BINDINGS, _BLOCKS = (ffi.typeof(text) for text in ("we_error *", "we_binding[]", "we_block *[]"))


def _text(pointer: Any) -> str:
    return str(ffi.string(pointer).decode("utf-8", "replace")) if pointer else ""


def _raise(error: Any) -> NoReturn:
    status = _text(lib.we_status_name(error.status))
    raise error_for(status, _text(error.message), _text(error.op), _text(error.node))


def _refuse(message: str) -> EngineError:
    return EngineError(message, status="INVALID_ARGUMENT")


def _check(status: int, error: Any) -> None:
    if status != 0:
        _raise(error)


def _c_name(text: str) -> bytes:
    encoded = text.encode()
    if b"\0" in encoded:
        raise _refuse(f"the name {text!r} holds a NUL character")
    return encoded


@cache
def _find_dtype(name: str) -> int:
    found = ffi.new("we_dtype *")
    if not lib.we_dtype_find(_c_name(name), found):
        known = ", ".join(FORMATS)
        raise _refuse(f"unknown dtype {name!r}; use one of: {known}")
    return int(found[0])


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """An input or output of a model.

    Attributes:
        name: its name in the graph.
        dtype: e.g. ``"F32"``; ``""`` where an output's type is not stated.
        shape: extents, a string where symbolic; ``None`` where the shape is not stated.
        kind: ``"tensor"``, ``"sequence"`` (``dtype`` is then its items') or ``"optional"``.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None
    kind: str = "tensor"


@dataclass(frozen=True, slots=True)
class OpInfo:
    """A row of the op table; ``tolerance`` is ``"exact"``, ``"ulp"`` or ``"bound"`` (see ops.inc)."""

    name: str
    op_class: str
    min_inputs: int
    max_inputs: int
    min_outputs: int
    max_outputs: int
    rule: str
    tolerance: str
    tolerance_value: float
    claims: str


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device of OpenCL: ``kind`` is gpu, accelerator or cpu; ``f64``, ``f16``: does it compute in these?

    ``identity`` is what parameters of :mod:`walle_engine.calibration` call it by: devices alike share it.
    """

    name: str
    kind: str
    platform: str
    driver: str
    units: int
    memory_bytes: int
    f64: bool
    f16: bool
    identity: str


@dataclass(frozen=True, slots=True)
class KernelInfo:
    """A row of a kernel table, and whether this CPU can run it and would choose it."""

    family: str
    isa: str
    name: str
    dtype: str
    tile: tuple[int, int]
    packed: bool
    exact: bool
    available: bool
    chosen: bool


def load(path: str | PathLike[str]) -> Model:
    """Map a ``.wmodel`` file and verify it.

    Args:
        path: the file; it must not change while the model lives.

    Returns:
        The model, ready for sessions.

    Raises:
        StorageError: the file cannot be read.
        ModelError: it is malformed; the message says where.
        UnsupportedError: it holds an operator or type this engine does not run.
    """
    out, error = ffi.new("we_model **"), ffi.new("we_error *")
    _check(lib.we_model_load(fsencode(path), out, error), error)
    return Model(out[0])


def load_bytes(data: bytes) -> Model:
    """Like ``load``, for a file already in memory; the bytes are copied."""
    out, error = ffi.new("we_model **"), ffi.new("we_error *")
    _check(lib.we_model_load_memory(data, len(data), out, error), error)
    return Model(out[0])


_KINDS = ("tensor", "sequence", "optional")  # of we_io_kind


class Model:
    """A verified graph with its weights; immutable. Made by ``load`` or ``GraphBuilder.finish``."""

    def __init__(self, handle: Any) -> None:
        self._handle = ffi.gc(handle, lib.we_model_release)
        self.inputs = self._values(lib.we_model_input_count, lib.we_model_input)
        self.outputs = self._values(lib.we_model_output_count, lib.we_model_output)

    @property
    def name(self) -> str:
        """The graph's name."""
        return _text(lib.we_model_name(self._handle))

    @property
    def node_count(self) -> int:
        """How many nodes the graph has."""
        return int(lib.we_model_node_count(self._handle))

    def _values(self, count: Any, get: Any) -> tuple[ValueInfo, ...]:
        info, error = ffi.new("we_io_info *"), ffi.new("we_error *")
        values = []
        for index in range(count(self._handle)):
            _check(get(self._handle, index, info, error), error)
            dims = tuple(
                _text(info.symbols[i]) if info.dims[i] == -1 else int(info.dims[i])
                for i in range(max(info.rank, 0))
            )
            dtype = _text(lib.we_dtype_name(info.dtype)) if info.dtype != lib.WE_DTYPE_COUNT else ""
            shape = dims if info.rank >= 0 else None
            values.append(ValueInfo(_text(info.name), dtype, shape, _KINDS[info.kind]))
        return tuple(values)

    def session(
        self,
        *,
        threads: int = 1,
        precision: Precision = "high",
        backend: str | None = None,
        search: Search = "model",
        merge: bool = True,
        vertical: bool = True,
        horizontal: bool = True,
        claims: bool = True,
        fuse: bool = True,
        reuse: bool = True,
        calibrated: bool = True,
        verify: bool = False,
        memory: Memory = "any",
        memory_limit: int = 0,
        max_trips: int = 0,
        search_s: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> Session:
        """Make a session; it prepares itself for each new set of input shapes.

        Args:
            threads: 1 to 64; at most so many of the process's cores work for one run of this session.
            precision: of products and convolutions. ``"highest"`` is float32 throughout; ``"high"`` may add a
                relative error of 1e-5 to each; ``"medium"`` may round their inputs to bfloat16, about three
                decimal digits, where that is faster, and sum in float32. All else is always float32.
            backend: ``"cpu"``; ``"opencl"``, all that the first OpenCL device can run there and the rest on
                the CPU; ``"auto"``, each node where that makes the whole fastest. ``"opencl:1"`` is the
                second device that :func:`devices` lists. By default what ``WALLE_ENGINE_BACKEND`` says, else
                ``"cpu"``.
            search: how it is chosen what runs each node. ``"model"`` goes by the cost model; ``"measure"``
                times what looks good where most of the time goes, while the session prepares, and keeps
                what it found for other processes (:mod:`walle_engine.measured`);
                ``"exhaustive"`` times every alternative of every node but those that the model thinks 20
                times slower than the best; ``"reference"`` runs the plain kernels.
            merge: turn rasters that move nothing into views, and merge rasters in the two ways below.
            vertical: let a raster that reads another's output read that one's sources.
            horizontal: let rasters that move the same share one result.
            claims: let the back end run composites natively where that costs less.
            fuse: bias and relu inside matrix products.
            reuse: let tensors share memory over their lives. ``WALLE_ENGINE_DISABLE=merge,reuse`` turns
                these two off in the whole process, and likewise any of the six.
            calibrated: let the cost model go by what was measured of this machine
                (:mod:`walle_engine.calibration`), where it was.
            verify: check merging element by element while preparing; slow, for debugging the engine.
            memory: ``"low"`` keeps weights of 4 and 8 bits (:mod:`walle_engine.compress`) as narrow as they
                are stored, also where that is slower; ``"any"`` where it is not.
            memory_limit: bytes of tensors that one run may hold; 0 is 8 GiB.
            max_trips: passes that all loops of one run may make together; 0 is 2**24.
            search_s: seconds that timing may take, per program; 0 is 2, or 600 for ``"exhaustive"``.
            clock: what timing goes by, seconds from an arbitrary start; the monotonic clock if omitted.

        Raises:
            ConfigError: a setting, ``WALLE_ENGINE_ISA`` or ``WALLE_ENGINE_DISABLE`` has an unknown value.
        """
        wanted = {
            "merge": merge, "vertical": vertical, "horizontal": horizontal, "claims": claims, "fuse": fuse,
            "reuse": reuse, "calibrated": calibrated,
        }  # fmt: skip
        calibration.load_once()
        if memory not in ("any", "low"):
            raise ConfigError(f"memory is {memory!r}: use 'any' or 'low'")
        flags = (
            lib.WE_SESSION_VERIFY * verify
            + lib.WE_SESSION_LOW_MEMORY * (memory == "low")
            + sum(flag for name, flag in _SESSION_FLAGS.items() if not wanted[name])
        )
        texts = [ffi.new("char[]", _c_name(text)) for text in (precision, backend or "", search)]
        _keep_programs()
        options = ffi.new("we_session_options *", {"threads": min(max(threads, -1), 1 << 20), "flags": flags})
        options.memory_limit = min(max(memory_limit, -1), 1 << 62)
        options.max_trips = min(max(max_trips, -1), 1 << 62)
        options.precision, options.backend, options.search = texts
        options.search_s = search_s
        callback = _clock_callback(clock)
        options.clock_s = options.clock_context = callback
        out, error = ffi.new("we_session **"), ffi.new("we_error *")
        _check(lib.we_session_new(self._handle, options, out, error), error)
        if search != "measure" or clock is not None:
            return Session(out[0], self, [callback])
        measured.load_once()
        return _MeasuringSession(out[0], self, [callback])


@cache
def _keep_programs() -> None:
    """Let programs that are built for devices outlive the process, where files may be kept."""
    folder = None if kept.is_off() else kept.folder("opencl")
    if folder is not None:
        lib.we_devices_keep_programs(fsencode(folder))


def _clock_callback(clock: Callable[[], float] | None) -> Any:
    return ffi.NULL if clock is None else ffi.callback("double(void *)", lambda _context: clock())


_SESSION_FLAGS = {
    "merge": lib.WE_SESSION_NO_MERGE,
    "vertical": lib.WE_SESSION_NO_VERTICAL,
    "horizontal": lib.WE_SESSION_NO_HORIZONTAL,
    "claims": lib.WE_SESSION_NO_CLAIMS,
    "fuse": lib.WE_SESSION_NO_FUSE,
    "reuse": lib.WE_SESSION_NO_REUSE,
    "calibrated": lib.WE_SESSION_UNCALIBRATED,
}


class Session:
    """A model prepared for running. Safe to use from several threads at once. Made by ``Model.session``.

    Attributes:
        model: what it runs.
        is_module: whether the model is more than one program whatever its inputs (control flow, text, ...).
    """

    def __init__(self, handle: Any, model: Model, clocks: Sequence[object] = ()) -> None:
        self._handle = ffi.gc(handle, lib.we_session_release)
        self.model = model
        self._wanted = {value.name: value.dtype for value in model.inputs}
        self._c_names = {value.name: ffi.new("char[]", _c_name(value.name)) for value in model.inputs}
        self._output_names = tuple(value.name for value in model.outputs)
        self.is_module = bool(lib.we_session_is_module(self._handle))
        # What has no buffer format of its own is told apart by what the model wants: not by run_buffers.
        plain = not self.is_module and all(value.dtype in PLAIN for value in model.inputs)
        self._address = int(ffi.cast("uintptr_t", self._handle)) if plain else 0
        self._profiling = threading.Lock()
        self._clocks = list(clocks)  # a step in flight may ask its clock after the profile has ended

    def run(self, inputs: Mapping[str, object]) -> dict[str, Any]:
        """Run the model once.

        Args:
            inputs: every graph input by name: NumPy arrays, Tensors, any other buffer or DLPack object of the
                input's dtype, or numbers in nested sequences. For an input of dtype STRING texts in nested
                sequences or an array of them; for a sequence a list of such values; ``None`` for an optional
                without a value.

        Returns:
            The outputs by name, in the model's order: a ``Tensor`` (``numpy.asarray(output)`` makes no copy),
            a ``TextTensor``, a list of them for a sequence, ``None`` for an optional without a value.

        Raises:
            EngineError: an input is missing, unknown, of the wrong dtype or shape, or holds an index out of
                range.
            UnsupportedError: these shapes need something the engine does not run; names op and node.

        Blocks: for the time of the inference, with the GIL released.
        """
        if self.is_module:
            return self._run_values(inputs)
        if self._address and isinstance(inputs, dict):
            tensors = _native.run_buffers(self._address, inputs, len(self._output_names))
            if tensors is not None:
                return dict(zip(self._output_names, map(_adopted, tensors), strict=True))
        bindings, keep = self._bind(inputs)
        blocks, error = ffi.new(_BLOCKS, len(self._output_names)), ffi.new(_ERROR)
        _check(lib.we_session_run(self._handle, bindings, len(bindings), blocks, error), error)
        del keep
        return {name: _tensor(block) for name, block in zip(self._output_names, blocks, strict=True)}

    def _run_values(self, inputs: Mapping[str, object]) -> dict[str, Any]:
        values = self.model.inputs
        for name in {value.name for value in values} ^ set(inputs):
            raise _refuse(
                f"input '{name}' is missing" if name not in inputs else f"the model has no input '{name}'"
            )
        keep: list[object] = []
        data = [_datum(inputs[value.name], value, keep) for value in values]
        outputs, error = ffi.new("we_datum *[]", len(self._output_names)), ffi.new("we_error *")
        _check(lib.we_session_run_values(self._handle, data, len(data), outputs, error), error)
        del keep
        owned = [ffi.gc(output, lib.we_datum_release) for output in outputs]
        return {name: _value(datum) for name, datum in zip(self._output_names, owned, strict=True)}

    def interrupt(self) -> None:
        """End the runs that are in a loop or between two parts of a model, in any thread: they raise."""
        lib.we_session_interrupt(self._handle)

    def prepare(self, inputs: Mapping[str, object]) -> None:
        """Do the work of the first run with inputs of these shapes, without running.

        What depends on data, and not on shapes alone, is left to the run.
        """
        if self.is_module:
            return
        bindings, keep = self._bind(inputs)
        error = ffi.new("we_error *")
        _check(lib.we_session_prepare(self._handle, bindings, len(bindings), error), error)
        del keep

    def explain(self) -> dict[str, Any]:
        """Return the latest prepared program: its steps with the chosen candidates, what merging did to its
        rasters (``merging``), and the memory plan.

        Where the model is more than one program, ``segments`` lists those kept from the last runs.

        Raises:
            EngineError: nothing was prepared yet.
        """
        out, error = ffi.new("char **"), ffi.new("we_error *")
        _check(lib.we_session_explain(self._handle, out, error), error)
        text = ffi.gc(out[0], lib.we_string_free)
        program: dict[str, Any] = json.loads(ffi.string(text))
        return program

    @contextlib.contextmanager
    def profile(self, clock: Callable[[], float] | None = None) -> Generator[Profile]:
        """Time every step of the runs made inside the ``with`` block, by any thread.

        ::

            with session.profile() as profile:
                session.run(inputs)
            profile.table()
            profile.write_trace("trace.json")

        Args:
            clock: seconds from an arbitrary start; the monotonic clock if omitted.

        Raises:
            EngineError: if the session is being profiled already.
        """
        if not self._profiling.acquire(blocking=False):
            raise _refuse("this session is being profiled already: leave the other profile first")
        profile = Profile()
        try:
            callback = _clock_callback(clock)
            self._clocks.append(callback)
            error = ffi.new("we_error *")
            _check(lib.we_session_profile_start(self._handle, callback, ffi.NULL, error), error)
            try:
                yield profile
            finally:
                lib.we_session_profile_stop(self._handle)
                profile.steps, profile.dropped = self._recorded()
        finally:
            self._profiling.release()

    def _recorded(self) -> tuple[tuple[Step, ...], int]:
        dropped, event, error = ffi.new("int64_t *"), ffi.new("we_profile_event *"), ffi.new("we_error *")
        steps = []
        for index in range(lib.we_session_profile_count(self._handle, dropped)):
            _check(lib.we_session_profile_event(self._handle, index, event, error), error)
            steps.append(
                Step(
                    _text(event.node), _text(event.op), _text(event.command), _text(event.candidate),
                    int(event.thread), event.start_s, event.end_s,
                )
            )  # fmt: skip
        return tuple(steps), int(dropped[0])

    def _bind(self, inputs: Mapping[str, object]) -> tuple[Any, list[object]]:
        """C bindings, and what must stay alive while they are used."""
        bindings = ffi.new(_BINDINGS, len(inputs))
        keep: list[object] = []
        for binding, (name, value) in zip(bindings, inputs.items(), strict=True):
            c_name = self._c_names.get(name) or ffi.new("char[]", _c_name(name))
            keep.append(c_name)
            binding.name = c_name
            _fill_view(binding.view, value, name, self._wanted.get(name, "F32"), keep)
        return bindings, keep


class _MeasuringSession(Session):
    """Keeps for other processes what it measured while it prepared."""

    def run(self, inputs: Mapping[str, object]) -> dict[str, Any]:
        outputs = super().run(inputs)
        measured.save_new()
        return outputs

    def prepare(self, inputs: Mapping[str, object]) -> None:
        super().prepare(inputs)
        measured.save_new()


def _fill_view(view: Any, value: object, name: str, wanted: str, keep: list[object]) -> None:
    memory: object
    if wanted == "STRING":
        texts, shape = text_view(value, name)
        held = [ffi.new("char[]", text) for text in texts]
        data, dtype = ffi.new("char *[]", held), wanted
        memory = held
    else:
        memory, dtype, shape = dense_view(value, name, wanted)
        data = ffi.from_buffer(memory)
    if len(shape) > _MAX_RANK:
        raise _refuse(f"input '{name}' has {len(shape)} dims; at most {_MAX_RANK}")
    keep += [data, memory]
    view.dtype = _find_dtype(dtype)
    view.rank = len(shape)
    view.dims[0 : len(shape)] = shape
    view.data = ffi.cast("void *", data)


def _datum(value: Any, info: ValueInfo, keep: list[object]) -> Any:
    """A value of the engine's that borrows the memory of ours; what must stay alive goes into ``keep``."""
    out, error = ffi.new("we_datum **"), ffi.new("we_error *")
    if value is None:
        _check(lib.we_datum_new_none(out, error), error)
    elif isinstance(value, (list, tuple)) and _is_sequence(value, info):
        item = ValueInfo(info.name, info.dtype, None)
        items = [_datum(part, item, keep) for part in value]
        _check(lib.we_datum_new_sequence(items, len(items), out, error), error)
    else:
        view = ffi.new("we_view *")
        _fill_view(view, value, info.name, info.dtype or "F32", keep)
        _check(lib.we_datum_new_view(view, out, error), error)
    owned = ffi.gc(out[0], lib.we_datum_release)
    keep.append(owned)
    return owned


def _is_sequence(value: Sequence[Any], info: ValueInfo) -> bool:
    """Whether a list is a sequence of tensors; an optional may also be one tensor given as nested numbers."""
    if info.kind == "sequence":
        return True
    return info.kind == "optional" and not any(isinstance(item, (int, float, str)) for item in value)


def _value(datum: Any) -> Any:
    """What a value of the engine's is in Python."""
    kind = lib.we_datum_kind_of(datum)
    if kind == lib.WE_DATUM_TENSOR:
        return _tensor(lib.we_datum_block(datum))
    if kind == lib.WE_DATUM_NONE:
        return None
    items = (lib.we_datum_item(datum, index) for index in range(lib.we_datum_count(datum)))
    return [_value(ffi.gc(item, lib.we_datum_release)) for item in items]


def _adopted(tensor: _native.Tensor) -> Tensor:
    """A tensor of the other extension as one of ours, with the same memory."""
    return Tensor(tensor, tensor.dtype, tensor.shape, tensor.handle)


def _tensor(block: Any) -> Tensor | TextTensor:
    """Take over one reference to a block."""
    owner = ffi.gc(block, lib.we_block_release)
    view = lib.we_block_view(owner)
    shape = tuple(view.dims[0 : view.rank])
    if view.dtype == lib.WE_STRING:
        texts = ffi.cast("char **", view.data)
        return TextTensor([_text(texts[i]) for i in range(math.prod(shape))], shape)
    # A cffi buffer keeps the object it was made from alive, so this one owns the block.
    memory = ffi.gc(view.data, lambda _data, _owner=owner: None)
    dtype = _dtype_name(view.dtype)
    return Tensor(ffi.buffer(memory, lib.we_block_nbytes(owner)), dtype, shape, lambda: _export(owner))


@cache
def _dtype_name(dtype: int) -> str:
    return _text(lib.we_dtype_name(dtype))


def _export(block: Any) -> int:
    """Name a reference to a block for one import."""
    handle, error = ffi.new("uint64_t *"), ffi.new("we_error *")
    _check(lib.we_block_export(block, handle, error), error)
    return int(handle[0])


class GraphBuilder:
    """Build a model node by node; the verifier checks it at ``finish``.

    A builder given as an attribute of a control-flow node is its body: it sees the values of the graph it is
    put into, and is spent by that.

    Args:
        name: of the graph.
    """

    def __init__(self, name: str = "") -> None:
        out, error = ffi.new("we_builder **"), ffi.new("we_error *")
        _check(lib.we_builder_new(_c_name(name), out, error), error)
        self._handle = ffi.gc(out[0], lib.we_builder_free)

    def input(
        self, name: str, dtype: str = "", shape: Sequence[int | str] | None = None, *, kind: str = "tensor"
    ) -> None:
        """Add an input.

        Args:
            name: its name.
            dtype: of the tensor, or of the items of a sequence; ``""`` where unknown.
            shape: extents, a string where symbolic; ``None`` where even the rank is unknown.
            kind: ``"tensor"``, ``"sequence"`` or ``"optional"``.
        """
        if shape is None or kind != "tensor":
            if kind not in _KINDS:
                raise _refuse(
                    f"input '{name}' has the unknown kind {kind!r}; use one of: {', '.join(_KINDS)}"
                )
            found = _find_dtype(dtype) if dtype else lib.WE_DTYPE_COUNT
            self._call(lib.we_builder_input_untyped, _c_name(name), _KINDS.index(kind), found)
            return
        symbols = [ffi.new("char[]", _c_name(dim)) if isinstance(dim, str) else ffi.NULL for dim in shape]
        dims = [-1 if isinstance(dim, str) else dim for dim in shape]
        if any(dim < 0 for dim in shape if not isinstance(dim, str)):
            raise _refuse(f"input '{name}' has a negative dim")
        self._call(lib.we_builder_input, _c_name(name), _find_dtype(dtype), len(dims), dims, symbols)

    def weight(self, name: str, value: object, dtype: str = "F32") -> None:
        """Add a constant: any buffer, or numbers in nested sequences of type ``dtype``."""
        memory, found, shape = dense_view(value, name, dtype)
        data = ffi.from_buffer(memory)
        view = ffi.new("we_view *", {"dtype": _find_dtype(found), "rank": len(shape)})
        if len(shape) > _MAX_RANK:
            raise _refuse(f"weight '{name}' has {len(shape)} dims; at most {_MAX_RANK}")
        view.dims[0 : len(shape)] = shape
        view.data = ffi.cast("void *", data)
        self._call(lib.we_builder_weight, _c_name(name), view)

    def node(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], *, name: str = "", **attrs: object
    ) -> None:
        """Add a node with ONNX's op and attribute names; ``""`` omits an optional input or output."""
        in_names = [ffi.new("char[]", _c_name(text)) for text in inputs]
        out_names = [ffi.new("char[]", _c_name(text)) for text in outputs]
        keep: list[object] = []
        c_attrs = ffi.new("we_attr[]", len(attrs))
        for c_attr, (key, value) in zip(c_attrs, attrs.items(), strict=True):
            _fill_attr(c_attr, key, value, keep)
        self._call(
            lib.we_builder_node, _c_name(op), _c_name(name), in_names, len(in_names), out_names,
            len(out_names), c_attrs, len(attrs),
        )  # fmt: skip

    def output(self, name: str) -> None:
        """Make a value a graph output."""
        self._call(lib.we_builder_output, _c_name(name))

    def finish(self) -> Model:
        """Verify the graph and turn it into a model; the builder is spent.

        Raises:
            ModelError: the graph breaks a rule; the message names op and node.
        """
        out = ffi.new("we_model **")
        self._call(lib.we_builder_finish, out)
        return Model(out[0])

    def _call(self, function: Any, *arguments: object) -> None:
        error = ffi.new("we_error *")
        _check(function(self._handle, *arguments, error), error)


def _fill_attr(attr: Any, name: str, value: Any, keep: list[object]) -> None:
    """Fill a C attribute; strings that start with ``@`` name a weight, builders are bodies."""

    def kept(made: Any) -> Any:
        keep.append(made)
        return made

    attr.name = kept(ffi.new("char[]", _c_name(name)))
    if isinstance(value, GraphBuilder):
        attr.kind, attr.graph = lib.WE_ATTR_GRAPH, value._handle
    elif isinstance(value, int):
        attr.kind, attr.integer = lib.WE_ATTR_INT, value
    elif isinstance(value, float):
        attr.kind, attr.real = lib.WE_ATTR_FLOAT, value
    elif isinstance(value, str):
        tensor = value.startswith("@")
        attr.kind = lib.WE_ATTR_TENSOR if tensor else lib.WE_ATTR_STRING
        attr.string = kept(ffi.new("char[]", _c_name(value[1:] if tensor else value)))
    elif isinstance(value, Sequence):
        attr.count = len(value)
        if all(isinstance(item, int) for item in value):
            attr.kind, attr.integers = lib.WE_ATTR_INTS, kept(ffi.new("int64_t[]", list(value)))
        elif all(isinstance(item, (int, float)) for item in value):
            attr.kind, attr.reals = lib.WE_ATTR_FLOATS, kept(ffi.new("double[]", list(value)))
        else:
            texts = [kept(ffi.new("char[]", _c_name(item))) for item in value]
            attr.kind, attr.strings = lib.WE_ATTR_STRINGS, kept(ffi.new("char *[]", texts))
    else:
        raise _refuse(f"attribute '{name}' has the unknown type {type(value).__name__}")


def ops() -> tuple[OpInfo, ...]:
    """Return the op table."""
    info, error = ffi.new("we_op_info *"), ffi.new("we_error *")
    rows = []
    for index in range(lib.we_op_count()):
        _check(lib.we_op_get(index, info, error), error)
        rows.append(
            OpInfo(
                _text(info.name), _text(info.op_class), info.min_inputs, info.max_inputs, info.min_outputs,
                info.max_outputs, _text(info.rule), _text(info.tolerance), info.tolerance_value,
                _text(info.claims),
            )
        )  # fmt: skip
    return tuple(rows)


def kernels() -> tuple[KernelInfo, ...]:
    """Return every kernel row of this build."""
    info, error = ffi.new("we_kernel_info *"), ffi.new("we_error *")
    rows = []
    for index in range(lib.we_kernel_count()):
        _check(lib.we_kernel_get(index, info, error), error)
        rows.append(
            KernelInfo(
                _text(info.family), _text(info.isa), _text(info.name), _text(lib.we_dtype_name(info.dtype)),
                (info.tile_m, info.tile_n), bool(info.packed), bool(info.exact), bool(info.available),
                bool(info.chosen),
            )
        )  # fmt: skip
    return tuple(rows)


def isas() -> tuple[str, ...]:
    """Return the legal values of ``WALLE_ENGINE_ISA``, weakest first."""
    return tuple(_text(lib.we_isa_name(index)) for index in range(lib.we_isa_count()))


def isa() -> str:
    """Return the instruction set in use: the CPU's best, capped by ``WALLE_ENGINE_ISA``.

    Raises:
        ConfigError: that variable has an unknown value.
    """
    out, error = ffi.new("const char **"), ffi.new("we_error *")
    _check(lib.we_isa_current(out, error), error)
    return _text(out[0])


def coverage() -> dict[str, dict[str, str]]:
    """Return family and dtype -> instruction set -> ``"chosen"``, ``"available"`` or ``"absent"`` here."""
    table: dict[str, dict[str, str]] = {}
    rank = {"absent": 0, "available": 1, "chosen": 2}
    for row in kernels():
        state = "chosen" if row.chosen else "available" if row.available else "absent"
        cells = table.setdefault(f"{row.family} {row.dtype}", {})
        if rank[state] >= rank[cells.get(row.isa, "absent")]:
            cells[row.isa] = state
    return table


def devices() -> tuple[DeviceInfo, ...]:
    """List what sessions may run on beside the CPU, in the order of their numbers: GPUs first."""
    info, error = ffi.new("we_device_info *"), ffi.new("we_error *")
    found = []
    for index in range(lib.we_device_count()):
        _check(lib.we_device_get(index, info, error), error)
        name, kind, platform, driver = map(_text, (info.name, info.kind, info.platform, info.driver))
        f64, f16 = bool(info.f64), bool(info.f16)
        found.append(
            DeviceInfo(
                name, kind, platform, driver, info.units, info.memory_bytes, f64, f16, f"{info.identity:016x}"
            )
        )
    return tuple(found)


def live_blocks() -> int:
    """Return how many tensor blocks are alive in the process; for leak checks."""
    return int(lib.we_live_blocks())
