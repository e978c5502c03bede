"""Prompt templates: the words around a question that a family of models was trained with.

Each template is a TOML file in this folder, or one of the user's own. Knows nothing of models or tokens.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwkv_runtime.errors import RwkvError
from rwkv_runtime.sampling import SamplingOptions

FOLDER = Path(__file__).parent
PLACES = {"system": "{system}", "user": "{user}", "assistant": "{assistant}"}
TEXTS = (*PLACES, "opening", "stop_after", "thought_ends")
BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Turn:
    """An earlier question and its answer."""

    user: str
    assistant: str


@dataclass(frozen=True)
class Template:
    """A prompt is: `system` if there is one; `user` and `assistant` for each earlier turn; `user`, then `opening`.

    `stop` and `stop_after` are what `generate` takes. Of earlier answers only what is behind `thought_ends` is kept.
    `sampling` is what the makers of the models recommend.
    """

    name: str
    system: str
    user: str
    assistant: str
    opening: str
    stop: tuple[str, ...]
    stop_after: str
    thought_ends: str
    sampling: SamplingOptions

    def render(self, question: str, system: str = "", earlier: Sequence[Turn] = ()) -> str:
        """The prompt for a question. Blank lines end a turn, so those within a text become line ends."""
        parts = [self.system.replace("{system}", _cleaned(system))] if system else []
        for turn in earlier:
            parts += [self.user.replace("{user}", _cleaned(turn.user)), self._answered(turn.assistant)]
        return "".join([*parts, self.user.replace("{user}", _cleaned(question)), self.opening])

    def _answered(self, answer: str) -> str:
        kept = answer.rpartition(self.thought_ends)[2] if self.thought_ends else answer
        return self.assistant.replace("{assistant}", _cleaned(kept))


def names() -> list[str]:
    """The templates that are shipped."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(source: str | Path) -> Template:
    """Load a shipped template by its name, or a file with the suffix .toml.

    Raises RwkvError if there is no such template, or for what is wrong with the file.
    """
    path = Path(source)
    if path.suffix != ".toml":
        if str(source) not in names():
            raise RwkvError(
                f"there is no prompt template {str(source)!r}; give one of {', '.join(names())} or a .toml file"
            )
        path = FOLDER / f"{source}.toml"
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RwkvError(f"{path}: is no prompt template ({error}); copy one from {FOLDER}") from error
    try:
        return _template(path.stem, content)
    except (TypeError, ValueError) as error:
        raise RwkvError(f"{path}: {error}; compare it with one from {FOLDER}") from error


def _template(name: str, content: dict[str, Any]) -> Template:
    """Make a template of what a file holds; raise ValueError or TypeError with what is wrong."""
    unknown = sorted(set(content) - {*TEXTS, "stop", "sampling"})
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no key of a template")
    texts = {key: content.get(key, "") for key in TEXTS}
    stop, sampling = content.get("stop", []), content.get("sampling", {})
    if not all(isinstance(text, str) for text in texts.values()):
        raise ValueError(f"one of {', '.join(TEXTS)} is no text")
    for key, place in PLACES.items():
        if texts[key].count(place) != 1:
            raise ValueError(f"{key} must have {place} in it once")
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise ValueError("stop must be a list of texts")
    if not isinstance(sampling, dict):
        raise ValueError("sampling must be a table")
    return Template(name=name, stop=tuple(stop), sampling=SamplingOptions(**sampling), **texts)


def _cleaned(text: str) -> str:
    """Line ends as LF, no blank lines, no white space around."""
    return BLANK_LINES.sub("\n", text.replace("\r\n", "\n")).strip()
