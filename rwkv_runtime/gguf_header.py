"""What a GGUF file says of itself: its metadata, and where each tensor lies.

Every count is held against the size of the file before anything is made of it, so that no file, however it was made
up, costs more than seconds and megabytes. Light on purpose, so that a tokenizer can be found in a file without
loading it: needs neither torch nor numpy. Knows the RWKV architectures by name, nothing of their tensors.
Source: the format's description in ggml/docs/gguf.md, and the cases of llama.cpp's tests/test-gguf.cpp.
"""

from __future__ import annotations

import math
import mmap
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rwkv_runtime.errors import ModelFileError, UnsupportedModelError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LARGEST_VERSION = 99  # of those that may come; a larger number is damage
ARCHITECTURES = ("rwkv6", "rwkv7")

BLOCKS = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
"""The ways of storing weights that are read: number in the file, name, weights in a block, bytes of a block.

Those that the `gguf` package unpacks; its own table would cost an import of numpy here, so a test compares the two.
"""

LONGEST_HEADER = 32 << 20  # bytes; a vocabulary of 65536 tokens takes about 2 MB
MOST_ENTRIES, MOST_TENSORS, MOST_TEXTS = 10_000, 100_000, 1_000_000
LONGEST_KEY = 65_535
LONGEST_TENSOR_NAME = 63
LARGEST_ALIGNMENT = 65_536
MOST_AXES = 4
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
SMALLEST_ENTRY = 8 + 1 + 4 + 1  # length of the key, key, type, value
SMALLEST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8  # length of the name, name, axes, one axis, type, offset

Value = int | float | bool | bytes | list[bytes] | array  # type: ignore[type-arg]  # no array[int] before 3.12


@dataclass(frozen=True)
class TensorPlace:
    """One tensor's bytes in the file. `shape` is in torch's order, rows first; `kind` a name out of BLOCKS."""

    name: str
    shape: tuple[int, ...]
    kind: str
    begin: int
    nbytes: int


@dataclass(frozen=True)
class GgufHeader:
    """Metadata by key, strings as bytes, and the tensors in the order of the file."""

    path: Path
    metadata: Mapping[str, Value]
    tensors: tuple[TensorPlace, ...]

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or ""

    def text(self, key: str) -> str | None:
        """A string of the metadata, or None. Raises ModelFileError if it is something else."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, bytes):
            raise ModelFileError(f"{self.path}: {key} should be a text, but is {value!r:.60}; download it again")
        return None if value is None else value.decode("utf-8", errors="replace")

    def number(self, key: str) -> int | float | None:
        """A number of the metadata, or None. Raises ModelFileError if it is something else."""
        value = self.metadata.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ModelFileError(f"{self.path}: {key} should be a number, but is {value!r:.60}; download it again")
        return value

    def numbers(self, key: str) -> Sequence[int] | None:
        """A list of whole numbers, or None. Raises ModelFileError if it is something else."""
        value = self.metadata.get(key)
        if value is not None and not (isinstance(value, array) and value.typecode not in "fd"):
            raise ModelFileError(f"{self.path}: {key} should be a list of whole numbers; download it again")
        return value

    def strings(self, key: str) -> list[bytes] | None:
        """A list of strings, or None. Raises ModelFileError if it is something else."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, list):
            raise ModelFileError(f"{self.path}: {key} should be a list of texts, but is not; download it again")
        return value


def recognises(head: bytes) -> bool:
    """Tell from a file's first bytes whether it is a GGUF file."""
    return head.startswith(MAGIC)


def read(path: Path) -> GgufHeader:
    """Read the header of a GGUF file with an RWKV model.

    Raises ModelFileError if it is damaged or does not fit the file, UnsupportedModelError if it is whole but of a kind
    that is not read: another model or version, one part of several, big-endian, quantized in an unknown way.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = _parse(path, _Cursor(content))
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: is a damaged GGUF file ({error}); download it again") from error
    if header.architecture not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{path}: a GGUF file of the architecture {header.architecture[:40]!r}; only {' and '.join(ARCHITECTURES)} "
            "are read from GGUF"
        )
    return header


class _Cursor:
    """Reads forward through the header; raises ValueError where the file would end or a limit is passed."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.size = len(content)
        self.position = 0
        self.texts = 0

    def skip(self, count: int, what: str) -> int:
        """Move on by `count` bytes that must be there; return where they begin."""
        begin, end = self.position, self.position + count
        if end > self.size:
            raise ValueError(f"{what} at byte {begin} would take {count} bytes, the file has {self.size}")
        if end > LONGEST_HEADER:
            raise ValueError(f"its header is longer than {LONGEST_HEADER} bytes")
        self.position = end
        return begin

    def number(self, code: str, what: str) -> int:
        layout = struct.Struct(f"<{code}")
        (value,) = layout.unpack_from(self.content, self.skip(layout.size, what))
        return value  # type: ignore[no-any-return]

    def count(self, smallest: int, most: int, what: str) -> int:
        """A number of things that take at least `smallest` bytes each, so that there cannot be more than fit."""
        found = self.number("Q", what)
        if found * smallest > self.size - self.position:
            raise ValueError(f"{found} {what} do not fit into {self.size} bytes")
        if found > most:
            raise ValueError(f"{found} {what}, at most {most} are possible")
        return found

    def strings(self, count: int) -> list[bytes]:
        """Strings one after the other: a vocabulary has very many of them, so this spares them all function calls."""
        self.texts += count
        if self.texts > MOST_TEXTS:
            raise ValueError(f"{self.texts} texts, at most {MOST_TEXTS} are possible")
        content, position, end = self.content, self.position, min(self.size, LONGEST_HEADER)
        read, found = struct.Struct("<Q").unpack_from, []
        for _ in range(count):
            (length,) = read(content, position) if position + 8 <= end else (end,)
            position += 8
            if length > end - position:
                self.position = position
                self.skip(length, "a text")  # says which limit is passed
            found.append(content[position : position + length])
            position += length
        self.position = position
        return found

    def string(self, longest: int, what: str) -> bytes:
        length = self.number("Q", what)
        if length > longest:
            raise ValueError(f"{what} of {length} bytes, at most {longest} are possible")
        begin = self.skip(length, what)
        return self.content[begin : begin + length]

    def name(self, longest: int, what: str) -> str:
        found = self.string(longest, what)
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{what} {found[:40]!r} is no text") from None


def _parse(path: Path, cursor: _Cursor) -> GgufHeader:
    cursor.skip(len(MAGIC), "the magic number")
    version = cursor.number("I", "the version")
    if version not in VERSIONS:
        raise _refused_version(version)
    n_tensors = cursor.count(SMALLEST_TENSOR, MOST_TENSORS, "tensors")
    metadata = _metadata(cursor, cursor.count(SMALLEST_ENTRY, MOST_ENTRIES, "metadata entries"))
    if int(_scalar(metadata, "split.count", 1)) > 1:
        raise UnsupportedModelError("it is one part of several; join them with `llama-gguf-split --merge FIRST WHOLE`")
    return GgufHeader(path, metadata, _tensors(cursor, n_tensors, _alignment(metadata)))


def _refused_version(version: int) -> UnsupportedModelError | ValueError:
    """What is wrong with a file of such a version: not supported, or no version at all."""
    if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
        return UnsupportedModelError("it is big-endian; turn a copy of it with `gguf-convert-endian COPY little`")
    read = " and ".join(map(str, VERSIONS))
    if not 1 <= version <= LARGEST_VERSION:
        return ValueError(f"its version is {version}, only {read} are read")
    remedy = "update unspool, or take an older file of the model"
    if version < min(VERSIONS):
        remedy = "convert the model anew with llama.cpp, or take a newer file of it"
    return UnsupportedModelError(f"is GGUF of version {version}; {read} are read: {remedy}")


def _metadata(cursor: _Cursor, count: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.name(LONGEST_KEY, "a metadata key")
        if key in found:
            raise ValueError(f"the metadata key {key[:60]!r} is given twice")
        found[key] = _value(cursor, cursor.number("I", "a type"))
    return found


def _value(cursor: _Cursor, kind: int) -> Value:
    if kind in SCALARS:
        return cursor.number(SCALARS[kind], "a value")
    if kind == STRING:
        return cursor.string(LONGEST_HEADER, "a text")
    if kind != ARRAY:
        raise ValueError(f"a metadata value is of the unknown type {kind}")
    element = cursor.number("I", "a type")
    if element == STRING:
        return cursor.strings(cursor.count(8, MOST_TEXTS, "texts"))
    if element not in SCALARS:
        raise ValueError(f"an array's elements are of the type {element}, which is unknown or an array again")
    layout = struct.Struct(f"<{SCALARS[element]}")
    length = cursor.count(layout.size, LONGEST_HEADER, "array elements") * layout.size
    begin = cursor.skip(length, "an array")
    numbers = array(SCALARS[element].replace("?", "B"))
    if numbers.itemsize != layout.size:
        raise ValueError(f"this machine has no numbers of {layout.size} bytes")
    numbers.frombytes(cursor.content[begin : begin + length])
    return numbers


def _scalar(metadata: Mapping[str, Value], key: str, otherwise: int) -> int:
    value = metadata.get(key, otherwise)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key} is no whole number")
    return value


def _alignment(metadata: Mapping[str, Value]) -> int:
    found = _scalar(metadata, "general.alignment", 32)
    if not 8 <= found <= LARGEST_ALIGNMENT or found & (found - 1):
        raise ValueError(f"an alignment of {found} bytes, which is no power of two from 8 to {LARGEST_ALIGNMENT}")
    return found


def _tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[TensorPlace, ...]:
    """Read where the tensors lie: one after the other, each at a multiple of `alignment` behind the header."""
    named: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for _ in range(count):
        name = cursor.name(LONGEST_TENSOR_NAME, "a tensor's name")
        if name in named:
            raise ValueError(f"the tensor {name!r} is given twice")
        named[name] = (_shape(cursor, name), cursor.number("I", "a type"), cursor.number("Q", "an offset"))
    start = _aligned(cursor.position, alignment)
    found, expected = [], 0
    for name, (shape, kind, offset) in named.items():
        if offset != expected:
            raise ValueError(f"the tensor {name!r} is said to be at {offset}, but those before it end at {expected}")
        nbytes = _nbytes(name, shape, kind)
        if start + offset + nbytes > cursor.size:
            raise ValueError(f"it is cut: {name!r} would end at {start + offset + nbytes} of {cursor.size} bytes")
        found.append(TensorPlace(name, shape, BLOCKS[kind][0], start + offset, nbytes))
        expected = offset + _aligned(nbytes, alignment)
    return tuple(found)


def _shape(cursor: _Cursor, name: str) -> tuple[int, ...]:
    axes = cursor.number("I", "a number of axes")
    if not 1 <= axes <= MOST_AXES:
        raise ValueError(f"the tensor {name!r} has {axes} axes, from 1 to {MOST_AXES} are possible")
    lengths = [cursor.number("Q", "an axis") for _ in range(axes)]
    if not all(0 < length < 1 << 63 for length in lengths):
        raise ValueError(f"the tensor {name!r} has the lengths {lengths}")
    return tuple(reversed(lengths))


def _nbytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    if kind not in BLOCKS:
        readable = ", ".join(label for label, _, _ in BLOCKS.values())
        raise UnsupportedModelError(
            f"the tensor {name!r} is quantized as type {kind}; readable are {readable}; take the model in one of them"
        )
    label, weights, nbytes = BLOCKS[kind]
    if shape[-1] % weights:
        raise ValueError(f"the tensor {name!r} has rows of {shape[-1]} weights, {label} needs multiples of {weights}")
    return math.prod(shape) // weights * nbytes


def _aligned(position: int, alignment: int) -> int:
    return (position + alignment - 1) // alignment * alignment
