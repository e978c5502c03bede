"""No flipped bit and no cut in a file of a run goes unnoticed, and none makes the program stumble."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.damage import damages

FILES = 1000
SHARDS = 4


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_damaged_file_is_noticed_and_healed_or_stops_the_run_with_its_reason(tmp_path: Path, shard: int) -> None:
    each = FILES // SHARDS
    found = list(damages(range(shard * each, (shard + 1) * each), tmp_path))

    assert [damage for damage in found if damage.wrong] == []
    kinds = {damage.file.split("/")[0] for damage in found}
    assert kinds >= {"ledger", "parts", "checkpoints", "inputs", "output", "run.json"}
