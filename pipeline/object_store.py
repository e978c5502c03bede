"""Objects of a store below one address, to write and to read back: whole or not there, some only if they are new.

By obstore, for `s3://`, `gs://` and `file://`. Credentials come from the environment or the machine's own role, and
from nowhere else. What a store refuses is an OSError that names the object, so that whoever writes handles it as a disk
that fails. Reading documents from stores is pipeline/remote.py. Knows nothing of runs or tables.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pipeline.durable import TEMPORARY
from pipeline.errors import MissingExtraError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

ADDRESS: Final = re.compile(r"(?:s3|gs)://[^\s/@:?#]+(?:/[^\s?#]*)?|file:///[^\s?#]+")
"""What an address looks like; it cannot hold a credential."""

_SAID: Final = re.compile(r"<Code>(\w+)</Code>\s*<Message>([^<]*)</Message>")
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_RETRIES: Final = 5
_LONGEST_RETRY: Final = timedelta(seconds=60)
_LONGEST_REQUEST: Final = timedelta(seconds=60)


class StoreError(OSError):
    """A store does not do what it was asked to. `filename` is the address of the object."""


@dataclass(frozen=True)
class Object:
    """An object as its store lists it. Two of one name with the same `tag` have the same content."""

    size: int
    tag: str


class Store:
    """The objects below an address. Names have slashes and no slash in front."""

    def __init__(self, address: str, store: ObjectStore) -> None:
        self.address = address.rstrip("/")
        self._store = store

    @classmethod
    def open(cls, address: str) -> Store:
        """Nothing is asked of the store yet. Raises MissingExtraError, StoreError for an address that is none."""
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise MissingExtraError("object stores need obstore: pip install 'unspool[cloud]'") from error
        options: dict[str, Any] = {}
        if address.startswith("file://"):
            Path(address.removeprefix("file://")).mkdir(parents=True, exist_ok=True, mode=0o700)
        else:
            plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
            options["client_options"] = {"allow_http": plain, "timeout": _LONGEST_REQUEST}
            options["retry_config"] = {"max_retries": _RETRIES, "retry_timeout": _LONGEST_RETRY}
        with _named(address):
            return cls(address, from_url(address, **options))

    def where(self, name: str) -> str:
        """The address of an object."""
        return f"{self.address}/{name}"

    def put(self, name: str, data: bytes | memoryview | Path) -> Object:
        """Make an object of these bytes or this file, or replace it. Others see the old one or the new one."""
        import obstore

        content = data if isinstance(data, Path) else bytes(data)
        size = content.stat().st_size if isinstance(content, Path) else len(content)
        with _named(self.where(name)):
            return Object(size, obstore.put(self._store, name, content)["e_tag"] or "")

    def put_if_absent(self, name: str, data: bytes | memoryview) -> None:
        """Make an object, unless there is one; of all who try exactly one succeeds. Raises FileExistsError.

        What this call itself has stored is no reason to fail: a request whose answer was lost is sent again.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with _named(self.where(name)):
            try:
                obstore.put(self._store, name, bytes(data), mode="create")
            except AlreadyExistsError as error:
                if self.get(name) != bytes(data):
                    raise FileExistsError(errno.EEXIST, "there is one already", self.where(name)) from error

    def get(self, name: str) -> bytes:
        """The content of an object. Raises FileNotFoundError, StoreError."""
        import obstore

        with _named(self.where(name)):
            return bytes(obstore.get(self._store, name).bytes())

    def objects(self) -> dict[str, Object]:
        """All objects, by name."""
        import obstore

        with _named(self.address):
            listed = [one for some in obstore.list(self._store) for one in some]
        return {one["path"]: Object(one["size"], one["e_tag"] or "") for one in listed}

    def remove(self, name: str) -> None:
        """Remove an object; nothing happens if there is none."""
        import obstore

        with _named(self.where(name)):
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                return

    def keeps_the_first(self) -> bool:
        """Whether the store honours a put that must not replace anything: tried with a name of its own."""
        name = f"probe{TEMPORARY}{secrets.token_hex(8)}"
        self.put_if_absent(name, b"the first\n")
        try:
            self.put_if_absent(name, b"the second\n")
        except FileExistsError:
            return self.get(name) == b"the first\n"
        finally:
            self.remove(name)
        return False


@contextmanager
def _named(where: str) -> Iterator[None]:
    """What obstore raises, as an OSError with the address. Its messages name bucket and key, never credentials."""
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:
        if error.filename is not None:
            raise
        raise FileNotFoundError(errno.ENOENT, f"the store says: {_reason(error)}", where) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise StoreError(errno.EACCES, f"the store says: {_reason(error)}", where) from error
    except (exceptions.BaseError, ValueError) as error:
        raise StoreError(errno.EIO, f"the store says: {_reason(error)}", where) from error


def _reason(error: Exception) -> str:
    """What the store itself says, where it does; else what obstore makes of it."""
    if found := _SAID.search(str(error)):
        return f"{found[1]}: {found[2]}"[:240]
    return " ".join(str(error).partition("Debug source:")[0].split())[:240]
