"""What every section of a job file is made of: frozen models closed against unknown keys, and errors in our words.

Knows nothing of what the sections say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

THIS_VERSION = "0.1"
LIST = Field(strict=False)  # strict models take tuples only, YAML gives lists
_TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


def problem(kind: str, message: str, **context: Any) -> PydanticCustomError:
    """An error whose message stands as it is. Kinds: expected, not_yet, duplicate, value."""
    return PydanticCustomError(kind, "{message}", {"message": message, **context})


def not_yet(what: str) -> str:
    """The message for something that the job format has and this version has not."""
    return f"{what} is in the job format but not in this version ({THIS_VERSION})"


def matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise problem("expected", expected)
        return text

    return AfterValidator(check)


def auto_or_count(least: int, most: int) -> BeforeValidator:
    """Takes `auto` and whole numbers in a range, and says so of anything else."""

    def check(value: object) -> object:
        whole = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        if value == "auto" or whole:
            return value
        raise problem("expected", f"auto or a whole number from {least} to {most}")

    return BeforeValidator(check)


TaskName = Annotated[str, matching(_TASK_NAME, "a name of up to 64 letters, digits, - and _, a letter first")]


class Section(BaseModel):
    """A mapping of the job file: frozen, strict, closed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)

    called: ClassVar[str]
    """How messages name it."""
    later: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Keys that the job format has and this version has not, with what to do instead."""
