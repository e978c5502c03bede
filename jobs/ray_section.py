"""The section `ray` of a job file: which cluster, and what each worker takes of it. Knows nothing of Ray itself."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from jobs.sections import Section, auto_or_count, matching, problem

_ADDRESS = re.compile(r"local|auto|ray://[^\s/@]+")
_RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9_:-]{0,63}")
_RAYS_OWN = ("CPU", "GPU", "memory", "object_store_memory")


def _amounts(value: object) -> object:
    if not isinstance(value, dict) or not all(_is_amount(name, amount) for name, amount in value.items()):
        raise problem("expected", "names that nodes were started with, each with an amount: {fast_disk: 1}")
    if named := [name for name in _RAYS_OWN if name in value]:
        raise problem("value", f"`{named[0]}` is one of Ray's own; `cpus` and `gpus` stand beside `resources`")
    return {name: float(amount) for name, amount in value.items()}


def _is_amount(name: object, amount: object) -> bool:
    a_name = isinstance(name, str) and _RESOURCE.fullmatch(name) is not None
    return a_name and isinstance(amount, int | float) and not isinstance(amount, bool) and 0 < amount < 1e9


def _auto_or_share(value: object) -> object:
    if value == "auto" or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 64):
        return value
    raise problem("expected", "auto or a number from 0 to 64")


class RaySection(Section):
    """The Ray cluster, and what each worker takes of it."""

    called = "ray"

    address: Annotated[str, matching(_ADDRESS, "local, auto or ray://host:port")] = "local"
    """`local` starts one on this machine, `auto` joins the running one."""
    cpus: Annotated[Annotated[int, Field(ge=1, le=1024)] | Literal["auto"], auto_or_count(1, 1024)] = "auto"
    """Processors of each worker, and so its threads; `auto` is 1 on a cluster, and an equal share on this machine."""
    gpus: Annotated[Annotated[float, Field(ge=0, le=64)] | Literal["auto"], BeforeValidator(_auto_or_share)] = "auto"
    """Graphics cards of each worker on a cluster; `auto` is one if the model's device is `cuda`."""
    resources: Annotated[dict[str, float], BeforeValidator(_amounts)] = Field(default_factory=dict)
    """What else a node must have, by the names that nodes of the cluster were started with: `{fast_disk: 1}`."""


def of_a_cluster(ray: RaySection) -> RaySection:
    """Refuse what a private cluster has no use for: what it is made with follows from the machine."""
    for key in ("gpus", "resources"):
        if ray.address == "local" and getattr(ray, key) not in ("auto", {}):
            raise problem("value", f"`{key}` is for nodes of a cluster; set `address` too, or leave it out", at=(key,))
    return ray
