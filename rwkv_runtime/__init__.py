"""Runs RWKV models: `load` gives a model that reads tokens from a state and hands back a new state.

Knows tokens, tensors and states; nothing of documents, tables or jobs. Importing it loads no torch: the names below
are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rwkv_runtime.config import ModelConfig
from rwkv_runtime.errors import (
    ModelFileError,
    NotFiniteError,
    RwkvError,
    ShapeError,
    StateError,
    StrategyError,
    TokenizerError,
    UnsupportedModelError,
    WeightsError,
)

if TYPE_CHECKING:
    from rwkv_runtime.engine import Engine, Fed, Feed
    from rwkv_runtime.loading import load
    from rwkv_runtime.model import Model, Output
    from rwkv_runtime.state import State

__all__ = [
    "Engine",
    "Fed",
    "Feed",
    "Model",
    "ModelConfig",
    "ModelFileError",
    "NotFiniteError",
    "Output",
    "RwkvError",
    "ShapeError",
    "State",
    "StateError",
    "StrategyError",
    "TokenizerError",
    "UnsupportedModelError",
    "WeightsError",
    "load",
]

_HOMES = {
    "Engine": "engine",
    "Fed": "engine",
    "Feed": "engine",
    "Model": "model",
    "Output": "model",
    "State": "state",
    "load": "loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"rwkv_runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
