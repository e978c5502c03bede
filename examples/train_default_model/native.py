"""The WKV-7 kernel in C++ (wkv.cpp), compiled on first use and kept in the user's cache folder.

Knows nothing of autograd: plain arrays in, plain arrays out.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("wkv.cpp")
# Not -ffast-math: a library linked with it makes the whole process flush subnormal numbers to zero.
REORDERING = ("-fassociative-math", "-freciprocal-math", "-fno-signed-zeros", "-fno-trapping-math", "-fno-math-errno")
FLAGS = ("-O3", "-march=native", *REORDERING, "-std=c++17", "-shared", "-fPIC")
OPENMP_FLAGS = (("-fopenmp",), ("-fopenmp-simd",))


class NoCompilerError(RuntimeError):
    """The kernel cannot be built here."""


@functools.cache
def library() -> ctypes.CDLL:
    """Load the compiled kernel, building it if this machine has not. Raises NoCompilerError."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise NoCompilerError("no C++ compiler found; install g++, or choose the kernel 'chunked'")
    processor = Path("/proc/cpuinfo")
    machine = processor.read_text().partition("\n\n")[0] if processor.exists() else ""
    flags_line = next((line for line in machine.splitlines() if line.startswith("flags")), "")
    key = hashlib.sha256("\0".join([SOURCE.read_text(), compiler, *FLAGS, flags_line]).encode()).hexdigest()[:16]
    path = _cache_folder() / f"wkv7-{key}.so"
    if not path.exists():
        _build(compiler, path)
    return ctypes.CDLL(str(path))


def _cache_folder() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "unspool" / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _build(compiler: str, path: Path) -> None:
    """Compile with OpenMP if the compiler has it; the file appears whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    for openmp in OPENMP_FLAGS:
        command = [compiler, *FLAGS, *openmp, str(SOURCE), "-o", str(temporary)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            temporary.replace(path)
            return
    raise NoCompilerError(f"{compiler} cannot build {SOURCE.name}: {done.stderr.strip()[:300]}; choose 'chunked'")
