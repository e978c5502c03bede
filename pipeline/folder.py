"""A folder is a registry: every module in it is one entry, and adding a file is all it takes to add one.

Knows nothing of what the entries are.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def entries(package: str) -> dict[str, ModuleType]:
    """The modules of a package by their short names, in the order of the names."""
    folder = importlib.import_module(package)
    names = sorted(info.name for info in pkgutil.iter_modules(folder.__path__))
    return {name: importlib.import_module(f"{package}.{name}") for name in names}
