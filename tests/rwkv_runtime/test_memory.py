"""How much memory a process may have: of the machine, or of the control groups that it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_runtime.memory import memory_limit_bytes

MACHINE = memory_limit_bytes(Path("/nowhere"))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_without_groups_it_is_what_is_built_in(tmp_path):
    assert MACHINE > 1 << 28
    assert memory_limit_bytes(tmp_path) == MACHINE
    assert (
        memory_limit_bytes(write(tmp_path, {"proc/self/cgroup": "what is this\n", "sys/fs/cgroup/memory.max": "7"}))
        == MACHINE
    )


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1000\n"}, 1000),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, MACHINE),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "900",
                "sys/fs/cgroup/a/b/memory.max": "max",
            },
            900,
        ),
        ({"proc/self/cgroup": "0::/not/here\n", "sys/fs/cgroup/memory.max": "800"}, 800),
        (
            {
                "proc/self/cgroup": "5:cpu:/x\n4:memory,hugetlb:/j\n",
                "sys/fs/cgroup/memory/j/memory.limit_in_bytes": "700",
            },
            700,
        ),
        ({"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": str(1 << 63)}, MACHINE),
    ],
)
def test_the_least_limit_of_the_groups_counts(tmp_path, files, limit):
    assert memory_limit_bytes(write(tmp_path, files)) == limit
