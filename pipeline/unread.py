"""In an engine's place where every task goes by words: documents are cut as for the model, and nothing is computed.

For tables of one document that nobody keeps. Knows nothing of which tasks those are.
"""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_runtime.engine import Engine, Fed, Feed


class Unread(Engine):
    """Hands every feed its own state back. Nothing that asks for features or surprise may be given to it."""

    def feed(self, feeds: Sequence[Feed]) -> list[Fed]:
        assert not any(feed.features or feed.followers for feed in feeds)  # `need_no_model` has been asked
        return [Fed(feed.state, None) for feed in feeds]

    def numeric_fingerprint(self) -> str:
        """No arithmetic, so the same everywhere."""
        return "unread"
