"""The finished tables, copied to an object store: every file whole, and the list of files last.

At any moment the list `_MANIFEST.json` is there and all that it names is as it says, or it is not there. `_RUN.json`
says whose tables these are: a folder that holds anything else is left alone. What has been copied is noted in the run
directory, so that an interrupted copy goes on; the notes are not trusted but compared with what the store lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from jobs.errors import ExitCode, JobError, usage_error
from jobs.finalize import FILE_LIST
from jobs.records import Output
from jobs.run_directory import RunDirectory
from pipeline.durable import json_line, read_bytes, seal, unseal
from pipeline.errors import MissingExtraError
from pipeline.object_store import Object, Store

OWNER: Final = "_RUN.json"


class Publication:
    """A place on a store for the tables of one run. Nothing is written before `bring_up_to_date`.

    Raises JobError: exit 2 if a package for stores is missing, exit 6 if the place holds other things.
    """

    def __init__(self, run: RunDirectory, address: str) -> None:
        self._run = run
        try:
            self._store = Store.open(address)
        except MissingExtraError as error:
            raise usage_error("OUTPUT-PUBLISH", str(error), address) from error
        self._there = self._store.objects()
        self._refuse_others()

    def bring_up_to_date(self, final: Output, say: Callable[[str], None]) -> None:
        """Copy what is not there yet. Raises JobError, OSError; then running again goes on with it."""
        listed = read_bytes(self._run.output / FILE_LIST)
        if self._is_whole(final, listed):
            return
        if OWNER not in self._there:
            self._claim()
        self._store.remove(FILE_LIST)
        notes = self._notes()
        files = [file for file in final.files if file.path != FILE_LIST]
        for file in files:
            noted = notes.get(file.path)
            if noted is None or noted[0] != file.sha256 or self._there.get(file.path) != Object(file.bytes, noted[1]):
                made = self._store.put(file.path, self._run.output / file.path)
                notes[file.path] = (file.sha256, made.tag)
                self._note(notes)
        for name in sorted(self._there.keys() - {file.path for file in files} - {OWNER}):
            self._store.remove(name)
        self._store.put(FILE_LIST, listed)
        say(f"{len(files)} files are published at {self._store.address}")

    def _is_whole(self, final: Output, listed: bytes) -> bool:
        sizes = {name: found.size for name, found in self._there.items() if name != OWNER}
        return sizes == {file.path: file.bytes for file in final.files} and self._store.get(FILE_LIST) == listed

    def _claim(self) -> None:
        try:
            self._store.put_if_absent(OWNER, json_line({"run_id": self._run.info.run_id}))
        except FileExistsError:
            raise self._taken("another run has just begun to publish there") from None

    def _refuse_others(self) -> None:
        if not self._there:
            return
        if OWNER not in self._there:
            raise self._taken(f"it holds other things ({min(self._there)})")
        try:
            owner = json.loads(self._store.get(OWNER))["run_id"]
        except (ValueError, KeyError, TypeError):
            raise self._taken(f"its {OWNER} is damaged") from None
        if owner != self._run.info.run_id:
            raise self._taken(f"it holds the tables of another run ({owner})")

    def _taken(self, what: str) -> JobError:
        message = f"{what}; empty it, or choose another output.publish"
        return JobError("OUTPUT-PUBLISH", message, exit_code=ExitCode.ENVIRONMENT, where=self._store.address)

    @property
    def _path(self) -> Path:
        return self._run.path / "published.json"

    def _notes(self) -> dict[str, tuple[str, str]]:
        """What was copied under which name: its sha256 and the store's tag of it."""
        try:
            found: Mapping[str, Any] = json.loads(unseal(read_bytes(self._path)))
            if found["to"] == self._store.address:
                return {name: (sha256, tag) for name, (sha256, tag) in found["files"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {}

    def _note(self, notes: Mapping[str, tuple[str, str]]) -> None:
        self._run.disk.publish(self._path, seal(json_line({"to": self._store.address, "files": notes})))
