"""Where the layers of a model live and how their matrices are kept: a plan, before the number of layers is known.

Knows devices and precisions; nothing of generations or of how a user writes a plan down.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from rwkv_runtime.huge_pages import HugePages
from rwkv_runtime.matrices import FP32, Matrix, Precision
from rwkv_runtime.operations import Operations, TorchOperations
from rwkv_runtime.weights import Weights

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Streamed:
    """A matrix that waits in the CPU's memory and goes to a device each time it is applied."""

    kept: Matrix
    device: torch.device

    @property
    def precision(self) -> str:
        """How it is kept."""
        return self.kept.precision

    @property
    def activations(self) -> torch.dtype:
        """The type that inputs and results may be in."""
        return self.kept.activations

    @property
    def rows(self) -> int:
        """Channels of the result."""
        return self.kept.rows

    @property
    def columns(self) -> int:
        """Channels of the input."""
        return self.kept.columns

    @property
    def nbytes(self) -> int:
        """The memory that it takes in the CPU's memory, in bytes."""
        return self.kept.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to [..., columns] on the device."""
        return _moved(self.kept, self.device)(x)


@dataclass(frozen=True)
class Placement:
    """The device of a layer and the precision of its matrices, which are `streamed` if they stay off that device.

    `operations` compute what lies between the matrices; `pages` hold those that are not mapped from a file. Those that
    a file has as they are needed stay mapped from it where they are `shared`: one copy for all processes of a machine.
    """

    device: torch.device = CPU
    precision: Precision = FP32
    streamed: bool = False
    shared: bool = True
    operations: Operations = field(default_factory=TorchOperations)
    pages: HugePages = field(default_factory=HugePages, compare=False)

    def matrix(self, weights: Weights, name: str, rows: int, columns: int) -> Matrix:
        """Take a matrix [rows, columns]. Raises WeightsError."""
        return self.keep(weights.take(name, rows, columns))

    def low_rank(self, weights: Weights, name: str, columns: int, rows: int) -> Matrix:
        """Take one of the low-rank matrices, which are stored as [in, out]; they always lie on the device."""
        weight = weights.take(name, columns, rows).T.to(self.device)
        return self._settled(self.operations.keep(self.precision.keep_low_rank(weight)), weight)

    def keep(self, weight: Tensor) -> Matrix:
        """Make a matrix of a stored tensor [rows, columns]."""
        matrix = self.operations.keep(self.precision.keep(weight.to(self.device)))
        return Streamed(_moved(matrix, CPU), self.device) if self.streamed else self._settled(matrix, weight)

    def _settled(self, matrix: Matrix, weight: Tensor) -> Matrix:
        """The matrix with what was made for it in huge pages; and `weight` too, as it was stored, unless shared."""
        stored = weight.untyped_storage().data_ptr()

        def in_place(tensor: Tensor) -> Tensor:
            stays = self.shared and tensor.untyped_storage().data_ptr() == stored
            return tensor if stays else self.pages.holding(tensor)

        return _changed(matrix, in_place)


@dataclass(frozen=True)
class Part:
    """Layers that follow one another in one place.

    `layers` None means an even share of those that no part has a number for. A part that `streams` has so many of its
    own and all that are left over, which wait in the CPU's memory.
    """

    placement: Placement
    layers: int | None = None
    streams: bool = False


@dataclass(frozen=True)
class Plan:
    """The parts of a model in their order. The head counts as one more layer after the last."""

    parts: tuple[Part, ...] = field(default_factory=lambda: (Part(Placement()),))
    name: str = "fp32"

    @classmethod
    def uniform(cls, device: torch.device, precision: Precision) -> Plan:
        """All layers in one place."""
        return cls((Part(Placement(device, precision)),), precision.name)

    def computed_by(self, operations: Operations, kind: str = "cpu") -> Plan:
        """The same plan with these operations for what lies on a kind of device: cpu, cuda."""
        return self._placed(
            lambda place: dataclasses.replace(place, operations=operations) if place.device.type == kind else place
        )

    def unshared(self) -> Plan:
        """The same plan with a copy of all weights for this process alone."""
        return self._placed(lambda place: dataclasses.replace(place, shared=False))

    def _placed(self, change: Callable[[Placement], Placement]) -> Plan:
        """The same parts in other places."""
        parts = (dataclasses.replace(part, placement=change(part.placement)) for part in self.parts)
        return Plan(tuple(parts), self.name)

    def placements(self, layers: int) -> list[Placement]:
        """The place of each layer and, last, of the head: [layers + 1].

        Numbers beyond the model's layers are cut off, and without a part for those that are left over the last part
        takes them.
        """
        counts = self._counts(layers + 1)
        places = [part.placement for part, count in zip(self.parts, counts, strict=True) for _ in range(count)]
        left = layers + 1 - len(places)
        streaming = next((index for index, part in enumerate(self.parts) if part.streams), None)
        if streaming is None:
            return places + [self.parts[-1].placement] * left
        behind = sum(counts[: streaming + 1])
        streamed = dataclasses.replace(self.parts[streaming].placement, streamed=True)
        return [*places[:behind], *[streamed] * left, *places[behind:]]

    def _counts(self, total: int) -> list[int]:
        """How many of `total` each part takes, before what is left over."""
        streams = any(part.streams for part in self.parts)
        free = 0 if streams else sum(part.layers is None for part in self.parts)
        left, counts = total, list[int]()
        for part in self.parts:
            counts.append(min(part.layers or 0, left))
            left -= counts[-1]
        for index, part in enumerate(self.parts):
            if part.layers is None and free:
                counts[index] = left // free
                left, free = left - counts[index], free - 1
        return counts


def _moved(matrix: Matrix, device: torch.device) -> Matrix:
    """The same matrix with its tensors on a device."""
    return _changed(matrix, lambda tensor: tensor.to(device))


def _changed(matrix: Matrix, change: Callable[[Tensor], Tensor]) -> Matrix:
    """The same matrix with other tensors. Every precision keeps a matrix as a dataclass, perhaps around another one."""
    fields: dict[str, Any] = {name: change(value) for name, value in vars(matrix).items() if isinstance(value, Tensor)}
    if (kept := getattr(matrix, "kept", None)) is not None:
        fields["kept"] = _changed(kept, change)
    return cast(Matrix, dataclasses.replace(cast(Any, matrix), **fields))
