"""The native library behind ctypes: its structs, and calls that check what they hand over.

A call takes tensors by the names of src/abi.hpp, contiguous, on the CPU and of the struct's types; outputs are tensors
that it fills. Knows nothing of models: what fits together in shape is the caller's business.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_float, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from rwkv_runtime.errors import RwkvError

ABI = 8
INSTRUCTION_SETS = ("avx512_bf16", "avx512", "avx2", "portable")
"""Best first."""
LARGEST_WIDTH = 16384
LARGEST_HEAD = 256
MOST_LANES = 64
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
ANY = (torch.float32, torch.bfloat16)
FLOAT, BFLOAT = (torch.float32,), (torch.bfloat16,)
UINT8, INT8, INT32, INT64 = (torch.uint8,), (torch.int8,), (torch.int32,), (torch.int64,)


class LibraryError(RwkvError):
    """The native library is missing, does not load, or lacks kernels for this processor."""


class Threads(Structure):
    """How a call may use threads."""

    _fields_ = (("region", c_void_p), ("count", c_int64), ("busy", c_int64), ("team", c_void_p))


class Call(Structure):
    """A struct of src/abi.hpp. `TENSORS` are its pointers with the types that they may have.

    `CODES` are its fields that give one type for several of the pointers.
    """

    TENSORS: ClassVar[dict[str, tuple[torch.dtype, ...]]] = {}
    CODES: ClassVar[dict[str, tuple[str, ...]]] = {}


def _struct(
    name: str,
    sizes: str,
    tensors: dict[str, tuple[torch.dtype, ...]],
    numbers: str,
    codes: dict[str, str],
    switches: str = "",
) -> type[Call]:
    """Make a struct: threads, sizes, pointers, floats, types of pointers, and switches, in this order."""
    fields: list[tuple[str, Any]] = [("threads", Threads)]
    fields += [(size, c_int64) for size in sizes.split()]
    fields += [(tensor, c_void_p) for tensor in tensors]
    fields += [(number, c_float) for number in numbers.split()]
    fields += [(code, c_int32) for code in (*codes, *switches.split())]
    typed = {code: tuple(names.split()) for code, names in codes.items()}
    return type(name, (Call,), {"_fields_": tuple(fields), "TENSORS": tensors, "CODES": typed})


def _all(names: str, types: tuple[torch.dtype, ...]) -> dict[str, tuple[torch.dtype, ...]]:
    return dict.fromkeys(names.split(), types)


CALLS = {
    "shift_mix": _struct(
        "ShiftMix",
        "lanes tokens width mixes",
        _all("lengths", INT64)
        | _all("stream", FLOAT)
        | _all("added", ANY)
        | _all("weight bias previous mix summed", FLOAT)
        | _all("mixed", ANY)
        | _all("last", FLOAT),
        "epsilon",
        {"dtype_added": "added", "dtype_mixed": "mixed"},
    ),
    "lerp_rows": _struct(
        "LerpRows",
        "lanes tokens width mixes",
        _all("normed previous amounts", FLOAT) | _all("mixed", ANY),
        "",
        {"dtype_mixed": "mixed"},
    ),
    "time_mix7": _struct(
        "TimeMix7",
        "lanes tokens heads size",
        _all("lengths", INT64)
        | _all("memory memory_after", FLOAT)
        | _all("receptance key value first_value gate decay rate blend", ANY)
        | _all("decay_bias rate_bias blend_bias removal_scale key_rate bonus norm_weight norm_bias", FLOAT)
        | _all("mixed", ANY),
        "decay_scale norm_epsilon",
        {"dtype": "receptance key value first_value mixed", "dtype_low": "gate decay rate blend"},
    ),
    "time_mix6": _struct(
        "TimeMix6",
        "lanes tokens heads size",
        _all("lengths", INT64)
        | _all("memory memory_after", FLOAT)
        | _all("receptance key value gate decay", ANY)
        | _all("decay_bias bonus norm_weight norm_bias", FLOAT)
        | _all("mixed", ANY),
        "norm_epsilon",
        {"dtype": "receptance key value gate mixed", "dtype_low": "decay"},
    ),
    "time_mix4": _struct(
        "TimeMix4",
        "lanes tokens width",
        _all("lengths", INT64)
        | _all("numerator denominator maximum numerator_after denominator_after maximum_after", FLOAT)
        | _all("receptance key value", ANY)
        | _all("log_decay bonus", FLOAT)
        | _all("mixed", ANY),
        "",
        {"dtype": "receptance key value mixed"},
    ),
    **{
        name: _struct("Elementwise", "count", _all("before after", ANY), "", {"dtype": "before after"})
        for name in ("squared_relu", "hyperbolic_tangent", "sigmoid")
    },
    "quantise_rows": _struct(
        "QuantiseRows",
        "rows columns",
        _all("before", ANY) | _all("quantised", INT8 + UINT8) | _all("scales", FLOAT),
        "",
        {"dtype": "before"},
        "squared_relu offset",
    ),
    "dequantise_sums": _struct(
        "DequantiseSums",
        "rows columns",
        _all("sums", INT32) | _all("row_scales column_scales", FLOAT) | _all("after", ANY),
        "",
        {"dtype": "after"},
    ),
    "unpack_int4": _struct("UnpackInt4", "rows columns", _all("blocks", UINT8) | _all("values", BFLOAT), "", {}),
}
"""The structs by the name of their kernel, in the order of the library's table."""
KERNELS = (*CALLS, "products", "decode7", "gemm", "window7")
"""All of the table. The last four take structs of structs, see whole7.py, matrices.py; some sets lack the last two."""


class Library:
    """The kernels of one instruction set."""

    def __init__(self, table: int, instruction_set: str, region: int | None, has_tiles: bool) -> None:
        """`has_tiles`: the processor multiplies matrices by itself (AMX), which torch knows how to use."""
        self.instruction_set = instruction_set
        self._region = region
        addresses = dict(zip(KERNELS, (c_void_p * len(KERNELS)).from_address(table), strict=True))
        self._kernels = {
            name: (struct, CFUNCTYPE(None, POINTER(struct))(addresses[name])) for name, struct in CALLS.items()
        }
        self._plain = {name: CFUNCTYPE(None, c_void_p)(addresses[name] or 0) for name in KERNELS if name not in CALLS}
        self.has_products_of_many = addresses["gemm"] is not None
        """Whether this set has kernels for many rows."""
        self.multiplies_many = self.has_products_of_many and not has_tiles
        """Whether they are faster than torch's."""

    @property
    def threading(self) -> str:
        """Whose threads do the work."""
        return "threads of torch's OpenMP" if self._region else "threads of their own"

    def threads(self) -> Threads:
        """What a call may use."""
        return Threads(self._region, torch.get_num_threads(), 0, None)

    def call_filled(self, kernel: str, filled: Structure) -> None:
        """Run a kernel on a struct that is filled already, and whose pointers are alive."""
        self._plain[kernel](ctypes.addressof(filled))

    def call(self, kernel: str, **fields: Tensor | float | None) -> None:
        """Run a kernel on torch's number of threads. Raises LibraryError for a tensor that it cannot take."""
        struct, run = self._kernels[kernel]
        types = struct.TENSORS
        values = {
            name: _address(kernel, name, value, types[name]) if name in types else value
            for name, value in fields.items()
        }
        for code, names in struct.CODES.items():
            values[code] = _code(kernel, names, fields)
        run(ctypes.byref(struct(self.threads(), **values)))


def _address(kernel: str, name: str, tensor: Tensor | float | None, types: tuple[torch.dtype, ...]) -> int | None:
    if tensor is None:
        return None
    if not isinstance(tensor, Tensor) or tensor.dtype not in types or not _plain(tensor):
        shown = f"{tensor.dtype} on {tensor.device}" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise LibraryError(f"{kernel} cannot take {name}: {shown}; it takes contiguous CPU tensors of its types")
    return tensor.data_ptr()


def address(tensor: Tensor) -> int:
    """Where a float32 tensor lies. Raises LibraryError for one that a kernel could not read as it lies."""
    if tensor.dtype != torch.float32 or not _plain(tensor):
        raise LibraryError(f"a kernel cannot take {tensor.dtype} on {tensor.device} with strides {tensor.stride()}")
    return tensor.data_ptr()


def _code(kernel: str, names: tuple[str, ...], fields: Mapping[str, Tensor | float | None]) -> int:
    """The number for the type that the tensors of these names share; 0 if there are none."""
    types = {tensor.dtype for name in names if isinstance(tensor := fields.get(name), Tensor)}
    if len(types) > 1:
        shown = {name: str(getattr(fields.get(name), "dtype", None)) for name in names}
        raise LibraryError(f"{kernel} cannot take {shown}; they must be of one type")
    return DTYPES[types.pop() if types else torch.float32]


def _plain(tensor: Tensor) -> bool:
    return tensor.is_contiguous() and tensor.is_cpu


def open_library(path: Path, instruction_set: str = "best") -> Library:
    """Load the library and choose kernels. Raises LibraryError, with the reason."""
    try:
        loaded = ctypes.CDLL(str(path))
        found = int(loaded.unspool_abi())
        kernels, has_tiles = loaded.unspool_kernels, bool(loaded.unspool_has_tiles())
    except (OSError, AttributeError) as error:
        raise LibraryError(f"no native kernels: {error}; build them again with `pip install`") from error
    if found != ABI:
        raise LibraryError(f"{path} has interface {found}, not {ABI}; build it again with `pip install`")
    kernels.argtypes, kernels.restype = (c_char_p,), c_void_p
    wanted = INSTRUCTION_SETS if instruction_set == "best" else (instruction_set,)
    for name in wanted:
        if table := kernels(name.encode("ascii")):
            return Library(int(table), name, _openmp_region(), has_tiles)
    raise LibraryError(f"no native kernels for {instruction_set}: not built, or this processor lacks it")


def _openmp_region() -> int | None:
    """GOMP_parallel of the OpenMP runtime that torch uses, so that one set of threads serves both; None elsewhere.

    A second set would find the first one still spinning on the processors.
    """
    try:
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    runtimes = {line.split(maxsplit=5)[5] for line in maps.splitlines() if "omp" in line.rpartition("/")[2]}
    for path in sorted(runtimes, key=lambda path: ("torch" not in path, path)):
        try:
            region = ctypes.cast(ctypes.CDLL(path).GOMP_parallel, c_void_p)
        except (OSError, AttributeError):
            continue
        return region.value
    return None
