"""Imported by a process that others are forked from: what a life of the command else imports only as it goes."""

from __future__ import annotations

import importlib
import pkgutil

import jobs
import pipeline

_NOT_NEEDED = ("pipeline.ray_pool", "pipeline.sandbox_child")

for _package in (jobs, pipeline):
    for _module in pkgutil.walk_packages(_package.__path__, f"{_package.__name__}."):
        if _module.name not in _NOT_NEEDED:
            importlib.import_module(_module.name)
