"""Models from the Hugging Face Hub: fetched once at a pinned revision, and used from its cache without a network.

A model of the hub is written `hf://OWNER/REPO@REVISION/FILE`, or `hf://OWNER/REPO` if one file of it was pulled. What
was pulled is recorded with its SHA-256 in the user's cache folder. Light on purpose; huggingface_hub (extra `hub`) is
loaded when something is pulled or looked for in its cache. Nothing is ever downloaded but by `pull`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rwkv_runtime import shards, user_cache
from rwkv_runtime.errors import ModelFileError

SCHEME = "hf://"
TOKENIZER = "tokenizer.json"
RECORD = "pulled.json"
_REPO = r"[\w.-]+/[\w.-]+"
_REVISION = re.compile(r"[0-9a-f]{40}")
_SOURCE = re.compile(rf"hf://(?P<repo>{_REPO})(?:@(?P<revision>[0-9a-f]{{40}})/(?P<file>.+))?")


@dataclass(frozen=True)
class Pulled:
    """A file of the hub: its repository, the path in it, the commit, and the SHA-256 of what was fetched."""

    repo: str
    file: str
    revision: str
    sha256: str

    @property
    def source(self) -> str:
        """How a job names it."""
        return f"{SCHEME}{self.repo}@{self.revision}/{self.file}"


def pull(repo: str, file: str, revision: str, sha256_of: Callable[[Path], str]) -> tuple[Pulled, Path]:
    """Fetch a weights file, its shards if it is an index, and the tokenizer.json beside it; record and return it.

    `sha256_of` hashes a model's files, given the path of the weights. Raises ModelFileError.
    """
    if not re.fullmatch(_REPO, repo):
        raise ModelFileError(f"{repo}: is no repository of the Hugging Face Hub; give OWNER/REPO")
    if not _REVISION.fullmatch(revision):
        raise ModelFileError(f"{repo}: the revision {revision!r} is no commit; give its 40 hexadecimal digits")
    path = _fetch(repo, file, revision)
    if file.endswith(shards.SUFFIX):
        for part in sorted(set(shards.shards_of(path).values())):
            _fetch(repo, str(PurePosixPath(file).with_name(part)), revision)
    with suppress(FileNotFoundError):
        _fetch(repo, str(PurePosixPath(file).with_name(TOKENIZER)), revision)
    pulled = Pulled(repo, file, revision, sha256_of(path))
    _record(pulled)
    return pulled, path


def find(source: str) -> Path:
    """Return where the cache has a model of the hub. Raises ModelFileError, with the command to run if it has not."""
    wanted = _wanted(source)
    hub = _hub()
    path = hub.try_to_load_from_cache(wanted.repo, wanted.file, revision=wanted.revision)
    if not isinstance(path, str) or not os.path.exists(path):
        raise ModelFileError(f"{source}: not in the cache; run {_command(wanted.repo, wanted.file, wanted.revision)}")
    return Path(path)


def recorded_sha256(source: str) -> str | None:
    """The SHA-256 of a model when it was pulled, or None if it was not pulled from here."""
    wanted = _wanted(source)
    same = (
        one for one in _records() if (one.repo, one.file, one.revision) == (wanted.repo, wanted.file, wanted.revision)
    )
    return next((one.sha256 for one in same), None)


def _wanted(source: str) -> Pulled:
    """What a source names. Without a file, what was pulled of its repository."""
    found = _SOURCE.fullmatch(source)
    if found is None:
        raise ModelFileError(f"{source}: is no model of the hub; write hf://OWNER/REPO or hf://OWNER/REPO@COMMIT/FILE")
    if found["file"]:
        return Pulled(found["repo"], found["file"], found["revision"], "")
    known = [one for one in _records() if one.repo == found["repo"]]
    if not known:
        raise ModelFileError(f"{source}: nothing of it was pulled yet; run {_command(found['repo'], 'FILE', 'COMMIT')}")
    if len(known) > 1:
        raise ModelFileError(
            f"{source}: {len(known)} files of it were pulled; write {known[0].source} or another of them"
        )
    return known[0]


def _command(repo: str, file: str, revision: str) -> str:
    return f"`unspool model pull {repo} --file {file} --revision {revision}`"


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ModelFileError("models of the hub need huggingface_hub; run `pip install unspool[hub]`") from error
    return huggingface_hub


def _fetch(repo: str, file: str, revision: str) -> Path:
    """Bring one file into the cache. Raises ModelFileError; FileNotFoundError for a tokenizer that is not there."""
    hub = _hub()
    try:
        return Path(hub.hf_hub_download(repo, file, revision=revision))
    except Exception as error:  # whatever the hub's client and its HTTP library raise
        if isinstance(error, hub.errors.RemoteEntryNotFoundError) and file.endswith(TOKENIZER):
            raise FileNotFoundError(file) from error
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ModelFileError(
            f"{SCHEME}{repo}@{revision}/{file}: cannot be fetched ({reason}); check its name"
        ) from error


def _records() -> list[Pulled]:
    try:
        return [Pulled(**one) for one in user_cache.read(user_cache.folder() / RECORD) or []]
    except TypeError:
        return []


def _record(pulled: Pulled) -> None:
    """Add to what was pulled, in place of the same file at the same commit."""
    others = [one for one in _records() if one.source != pulled.source]
    user_cache.write(user_cache.folder() / RECORD, [vars(one) for one in (*others, pulled)])
