"""The extension modules of fasttile, and the viewers' scripts; the rest is in pyproject.toml."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

MSVC = sys.platform == "win32"
OPTIMISE = ["/O2"] if MSVC else ["-O3", "-g0"]  # gcc 12 vectorises nothing at -O2
STRIP = ["-s"] if sys.platform == "linux" else []
if any(flag.startswith("-g") for flag in os.environ.get("CFLAGS", "").split()):
    # Symbols for debuggers, four fifths of a module's size, are wanted.
    OPTIMISE, STRIP = OPTIMISE[:1], []
AVX2 = ["/arch:AVX2"] if MSVC else ["-mavx2"]
HEADERS = ["src/fasttile/_resample_simd.h", "src/fasttile/_resample_methods.pyx"]

extensions = [
    Extension(
        "fasttile._resample",
        ["src/fasttile/_resample.pyx"],
        depends=HEADERS,
        extra_compile_args=OPTIMISE,
    ),
    Extension("fasttile._pages", ["src/fasttile/_pages.pyx"], extra_compile_args=OPTIMISE),
    Extension("fasttile._colour", ["src/fasttile/_colour.pyx"], extra_compile_args=OPTIMISE),
    Extension("fasttile._files", ["src/fasttile/_files.pyx"], extra_compile_args=OPTIMISE),
    Extension("fasttile._runs", ["src/fasttile/_runs.pyx"], extra_compile_args=OPTIMISE),
]

MACHINE = sysconfig.get_platform().rpartition("-")[2]  # what is built for, also by a cross compiler
if MACHINE in {"x86_64", "amd64"}:
    # The same kernels once more, for processors with AVX2.
    FAST, FLAGS, MACROS = "avx2", AVX2, []
elif MACHINE in {"aarch64", "arm64"}:
    # The same kernels once more with NEON, which needs no flag: the macro asks for it.
    FAST, FLAGS, MACROS = "neon", [], [("FASTTILE_NEON", None)]
else:
    FAST = ""

if FAST:
    extensions.append(
        Extension(
            f"fasttile._resample_{FAST}",
            [f"src/fasttile/_resample_{FAST}.pyx"],
            depends=[*HEADERS, "src/fasttile/_resample.pyx"],
            define_macros=MACROS,
            extra_compile_args=[*OPTIMISE, *FLAGS],
        )
    )

# The stable ABI of CPython 3.11: one wheel serves all later versions, at the same speed. Python
# without the GIL has none of 3.11.
LIMITED = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

for extension in extensions:
    extension.extra_link_args = STRIP
    if LIMITED:
        extension.py_limited_api = True
        extension.define_macros = [*extension.define_macros, ("Py_LIMITED_API", "0x030B0000")]

modules = cythonize(
    extensions,
    compiler_directives={
        "language_level": 3,
        "boundscheck": False,
        "wraparound": False,
        "cdivision": True,
        "initializedcheck": False,
        "freethreading_compatible": True,
    },
)
for module in modules:
    # Where a compiler does not know the flag or the header, the build goes on without this module,
    # and the plain one serves. (cythonize loses the word if it is said above.)
    module.optional = module.name.endswith(("_avx2", "_neon"))


def fetch_viewers():
    """Bring the viewers' scripts, if they are missing and npm is there. No build fails by this."""
    program = Path(__file__).resolve().parent / "tools" / "fetch_viewers.py"
    sys.stdout.flush()
    subprocess.run([sys.executable, str(program)], check=False)


def licence_files():
    """Texts of the licences of fasttile and of the viewers' scripts that are there."""
    return [
        "LICENSE",
        *sorted(map(str, Path("src/fasttile/viewers/scripts").glob("*.LICENSE.txt"))),
    ]


class BuildModules(build_ext):
    """Python prefers modules of its own version, which earlier builds made, to the stable ABI's."""

    def run(self):
        """Build the modules, and remove those of another ABI."""
        super().run()
        folders = [Path(self.build_lib, "fasttile"), Path("src/fasttile")][: 1 + self.inplace]
        for folder in folders if LIMITED else ():
            for module in folder.glob("_*" + sysconfig.get_config_var("EXT_SUFFIX")):
                module.unlink()


class BuildPython(build_py):
    """Also for an editable installation."""

    def run(self):
        """Build the modules, with the viewers' scripts."""
        fetch_viewers()
        self.distribution.metadata.license_files = licence_files()
        super().run()


class SourceDistribution(sdist):
    """Wheels that are built from it need no npm."""

    def run(self):
        """Pack the sources, with the viewers' scripts."""
        fetch_viewers()
        super().run()


def description():
    """Make the README a page of a package index: its relative links become addresses."""
    root = Path(__file__).resolve().parent
    with (root / "pyproject.toml").open("rb") as project:
        repository = tomllib.load(project)["project"]["urls"]["Repository"]
    text = (root / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^]]*\]\()(?!https?:|#)", rf"\1{repository}/raw/main/", text)
    return re.sub(r"(?<!\!)(\[[^]]*\]\()(?!https?:|#)", rf"\1{repository}/blob/main/", text)


setup(
    ext_modules=modules,
    cmdclass={"build_ext": BuildModules, "build_py": BuildPython, "sdist": SourceDistribution},
    long_description=description(),
    long_description_content_type="text/markdown",
    license_files=licence_files(),
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED else {},
)
