"""Strategy strings of the `rwkv` package, such as `cuda fp16 *10 -> cpu fp32`, as plans.

A strategy names devices and dtypes in the order of the layers, the head being one more; `*10` is for so many of them,
`*10+` keeps so many there and streams the rest through that device, and without a number a part takes an even share of
what is left. Knows nothing of weights. Source: the `rwkv` package 0.8.32 (RWKV.__init__, "Compute strategy").
"""

from __future__ import annotations

import re

import torch

from rwkv_runtime.errors import StrategyError
from rwkv_runtime.matrices import PRECISIONS, Precision
from rwkv_runtime.placement import Part, Placement, Plan

_PART = re.compile(r"(?P<device>\S+) +(?P<dtype>\S+)(?: +\*(?P<layers>\d+)(?P<streams>\+)?)?")
_DTYPES = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "fp32i8": "int8", "fp16i8": "int8", "bf16i8": "int8"}
_EXAMPLES = "write, for example, `cpu fp32` or `cuda fp16 *10 -> cpu fp32`"


def parse(text: str) -> Plan:
    """Read a strategy. Raises StrategyError for what is none, and for a device that is not there."""
    parts = [_part(part.strip(), text) for part in text.split("->")]
    if sum(part.streams for part in parts) > 1:
        raise StrategyError(f"strategy {text!r}: only one part can stream the rest of the layers; leave one `+`")
    return Plan(tuple(parts), " -> ".join(" ".join(part.split()) for part in text.split("->")))


def device(name: str) -> torch.device:
    """The device of a name: cpu (or auto), cuda, cuda:1, mps. Raises StrategyError for one that is not there."""
    if name in ("auto", "cpu"):
        return torch.device("cpu")
    if name == "mps":
        return _there(name, int(torch.backends.mps.is_available()))
    if re.fullmatch(r"cuda(:\d+)?", name):
        return _there(name if ":" in name else "cuda:0", torch.cuda.device_count())
    raise StrategyError(f"device {name!r} is not known; use cpu, cuda, cuda:1, … or mps")


def _there(name: str, count: int) -> torch.device:
    found = torch.device(name)
    if (found.index or 0) >= count:
        raise StrategyError(f"device {name!r} is not there: this machine has {count} of its kind; use cpu")
    return found


def _part(part: str, text: str) -> Part:
    found = _PART.fullmatch(part)
    if found is None:
        raise StrategyError(f"strategy {text!r}: {part!r} is not DEVICE DTYPE or DEVICE DTYPE *LAYERS; {_EXAMPLES}")
    place = Placement(device(found["device"]), _precision(found["dtype"], text))
    layers = int(found["layers"]) if found["layers"] else None
    return Part(place, layers, found["streams"] is not None)


def _precision(name: str, text: str) -> Precision:
    if name not in _DTYPES:
        raise StrategyError(f"strategy {text!r}: dtype {name!r} is not supported; use {', '.join(_DTYPES)}")
    return PRECISIONS[_DTYPES[name]]
