"""Where tables can be handed on to, one module each.

A sink has `SUFFIX` (of the name that is chosen when none is given), `OPTIONS` (which of SinkOptions it knows) and
`write(dataset, target, options)`, which makes `target`, a file or a folder that is not there yet, in memory that does
not grow with the tables. One that is a server has `load(dataset, address)` as well: all of it there, or nothing.
They raise MissingExtraError without the package they need, SinkError for what they cannot take or what a server says.
A contract test runs over every module of this folder.
"""

from __future__ import annotations

from types import ModuleType

from pipeline.folder import entries


def sinks() -> dict[str, ModuleType]:
    """The sinks by their names."""
    return entries(__name__)
