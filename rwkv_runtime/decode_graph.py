"""Decoding many texts a token at a time on a GPU: the state is written in its place, and the kernels are recorded.

One step of a model is a few hundred small kernels, which cost more to start than to run. `GraphDecoder` records them
once as a CUDA graph and replays it; the state never leaves its place, so a step moves every memory once each way. On
other devices, and with other operations, the same steps are taken without a recording. Knows a network of layers and
nothing of tokenizers or sampling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rwkv_runtime.errors import UnsupportedModelError
from rwkv_runtime.layers import Layer, Stack, Window
from rwkv_runtime.lengths import Lengths
from rwkv_runtime.network import Tensors
from rwkv_runtime.operations import Operations, Stream

WARM_UPS = 2
"""Steps before the recording, in which kernels are compiled and libraries make their workspaces."""


class GraphDecoder:
    """B lanes of one model on one device, each with a state of its own."""

    def __init__(self, network: Stack, lanes: Tensors, in_place: Operations) -> None:
        """Start from a state's tensors [L, B, ...], which are copied.

        `in_place` are operations that write a new memory where the old one was. Raises UnsupportedModelError for a
        model on several devices.
        """
        devices: set[torch.device] = {layer.device for layer in network.layers} | {network.output_device}
        if len(devices) > 1:
            raise UnsupportedModelError(f"a model on {len(devices)} devices cannot be recorded; place it on one")
        self.state = {name: tensor.clone().contiguous() for name, tensor in lanes.items()}
        count = self.state["att_shift"].shape[1]
        self._network = network
        self._layers = tuple(_with_operations(layer, in_place) for layer in network.layers)
        self._tokens = torch.zeros(count, 1, dtype=torch.long)
        self._rows = torch.zeros(count, 1, dtype=torch.long, device=network.embedding.device)
        self._lengths = torch.zeros(count, dtype=torch.int32, device=network.device)
        # the layers of RWKV-7a look tokens up in tables on the CPU, which no recording can hold
        self._records = network.device.type == "cuda" and network.config.generation != "7a"
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits: Tensor | None = None

    def step(self, tokens: Sequence[int | None]) -> Tensor:
        """Read one token in each lane, none in a lane with None; returns logits [B, vocabulary].

        Those of a lane without a token mean nothing, and its state stays as it was. They are overwritten by the next
        step.
        """
        self._tokens.copy_(torch.tensor([[token or 0] for token in tokens]))
        self._rows.copy_(self._tokens)
        counts = [int(token is not None) for token in tokens]
        self._lengths.copy_(torch.tensor(counts, dtype=torch.int32))
        with torch.inference_mode():
            return self._replayed() if self._records else self._computed(Lengths(counts))

    def _replayed(self) -> Tensor:
        if self._graph is None:
            self._record()
        assert self._graph is not None and self._logits is not None
        self._graph.replay()
        return self._logits

    def _record(self) -> None:
        """Warm up in lanes without a token, so that no state changes, then record."""
        given, read_later = self._lengths.clone(), Lengths.kept_in(self._lengths)
        self._lengths.zero_()
        with torch.cuda.device(self._network.device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    self._computed(read_later)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._logits = self._computed(read_later)
        self._lengths.copy_(given)

    def _computed(self, lengths: Lengths) -> Tensor:
        """All layers and the head, from the embeddings to the logits; the state is written."""
        x = self._network.first_norm(F.embedding(self._rows, self._network.embedding).float())
        stream, handed = Stream(x), None
        window = Window(self._tokens, x, lengths)
        for index, layer in enumerate(self._layers):
            part = {name: tensor[index] for name, tensor in self.state.items()}
            stream, changed, handed = layer(stream, part, handed, window)
            for name, tensor in changed.items():
                if tensor.data_ptr() != part[name].data_ptr():
                    part[name].copy_(tensor)
        return self._network.logits(self._network.final_norm(stream.summed()[:, 0]))


def _with_operations(layer: Layer, operations: Operations) -> Layer:
    """The same layer with other operations around its time mix. Every generation keeps one as a dataclass."""
    time_mix: Any = layer.time_mix
    mixed = dataclasses.replace(time_mix, operations=operations)
    return dataclasses.replace(layer, operations=operations, time_mix=mixed)
