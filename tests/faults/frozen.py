"""Imported last by a process that others are forked from: what is there by then is set aside for good.

A collection of garbage in a child would else look at all of it, and so copy all of it.
"""

from __future__ import annotations

import gc

gc.collect()
gc.freeze()
