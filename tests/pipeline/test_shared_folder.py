"""Two machines mean the same folder only if each sees what the other has just written there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.durable import TEMPORARY, Disk
from pipeline.shared_folder import NotSharedError, announce, confirm, echo


def test_a_folder_that_both_see_is_shared_and_nothing_but_the_token_is_left(tmp_path: Path) -> None:
    token = announce(tmp_path, Disk())
    confirm(echo(token, Disk()), Disk())

    assert [str(path) for path in tmp_path.iterdir()] == [token.path]
    assert TEMPORARY in token.path, "garbage collection takes it for what it is"


def test_a_machine_with_another_folder_at_the_same_path_says_which_machine_and_folder(tmp_path: Path) -> None:
    token = announce(tmp_path, Disk())
    Path(token.path).unlink()

    with pytest.raises(NotSharedError, match=rf"does not see what was written to {tmp_path}; put output.path on"):
        echo(token, Disk())
    Path(token.path).write_text("of somebody else")
    with pytest.raises(NotSharedError):
        echo(token, Disk())


def test_a_machine_that_may_only_read_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = announce(tmp_path, Disk())

    def read_only(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Disk, "publish", read_only)
    with pytest.raises(NotSharedError, match=r"cannot write to .* \(Permission denied\)"):
        echo(token, Disk())


def test_an_answer_that_does_not_arrive_here_is_refused(tmp_path: Path) -> None:
    answer = echo(announce(tmp_path, Disk()), Disk())

    with pytest.raises(NotSharedError, match="this machine does not see"):
        confirm(replace(answer, path=f"{answer.path}-elsewhere"), Disk())
