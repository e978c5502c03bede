"""Builds the native kernels with the package; everything else stands in pyproject.toml.

The sources of rwkv_runtime/native/src are compiled for any processor, and the kernels once more per instruction set
that the compiler knows; which of them runs is decided when the library is loaded. Without a compiler the package is
installed without the library and computes with torch alone.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

SOURCES = Path("rwkv_runtime", "native", "src")
LIBRARY = "rwkv_runtime.native.kernels"
NOTE = "build_failure.txt"
FLAGS = ["-std=c++17", "-O3", "-fvisibility=hidden", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-g0", "-w"]  # warnings: GCC 12 has hundreds of its own header, and the tests are ours
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mprfchw", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
X86 = {"avx2": AVX2, "avx512": AVX512, "avx512_bf16": [*AVX512, "-mavx512vnni", "-mavx512bf16"]}


class BuildKernels(build_ext):
    """Compiles the kernels once per instruction set, and goes on without the library where that fails."""

    def build_extension(self, ext: Extension) -> None:
        note = Path(self.get_ext_fullpath(ext.name)).with_name(NOTE)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        try:
            self._build(ext)
        except (BaseError, CCompilerError, OSError) as error:
            reason = " ".join(str(error).split())[:300]
            print(f"unspool: no native kernels ({reason}); torch alone computes, more slowly", file=sys.stderr)
            note.write_text(reason, encoding="utf-8")
            SOURCES.with_name("kernels.so").unlink(missing_ok=True)  # in an editable install it would be an old one

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split(".")).with_suffix(".so"))  # no part of it depends on the version of Python

    def copy_extensions_to_source(self) -> None:
        super().copy_extensions_to_source()
        built = Path(self.build_lib, SOURCES.parent, NOTE)
        SOURCES.with_name(NOTE).unlink(missing_ok=True)
        if built.exists():
            self.copy_file(str(built), str(SOURCES.with_name(NOTE)))

    def _build(self, ext: Extension) -> None:
        objects, macros = [], []
        sets = X86 if platform.machine().lower() in ("x86_64", "amd64") else {}
        for name, flags in {"portable": [], **sets}.items():
            try:
                objects += self._compile("kernels.cpp", [("UNSPOOL_ISA", name)], flags, name)
            except CCompilerError:
                if name == "portable":
                    raise
                print(f"unspool: this compiler does not know {name}; built without it", file=sys.stderr)
                continue
            macros.append((f"UNSPOOL_HAS_{name.upper()}", "1"))
        objects += self._compile("library.cpp", macros, [], "library")
        path = self.get_ext_fullpath(ext.name)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, path, extra_postargs=["-pthread"], target_lang="c++")

    def _compile(self, source: str, macros: list[tuple[str, str]], flags: list[str], folder: str) -> list[str]:
        return self.compiler.compile(
            [str(SOURCES / source)],
            output_dir=str(Path(self.build_temp, folder)),
            macros=macros,
            extra_postargs=[*FLAGS, *flags, "-pthread"],
            depends=[str(path) for path in sorted(SOURCES.glob("*.hpp"))],
        )


class AnyPython(bdist_wheel):
    """The library is called through ctypes, so a wheel of one platform serves every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


sources = sorted(str(path) for path in SOURCES.glob("*.cpp"))
setup(
    ext_modules=[Extension(LIBRARY, sources, language="c++", optional=True)],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPython},
)
