"""Builds the compiled part. Everything that can be said without code is in pyproject.toml.

`_fastpath/` is installed as the subpackage koko_presence._fastpath. Every `_fastpath/*.pyx` becomes one extension. All
generated files go to build/, so that no C file ever stands beside a source.

Every extension gets the macros KOKO_VERSION, KOKO_PICOWS and KOKO_AIOFASTNET: the versions it was built beside.
`_fastpath/build_info.pyx` compares them at import, because functions of picows are used that have no public name.

Extensions are compiled in parallel, one per processor: first all to C (processes), then all to machine code (threads).
An editable install and `build_ext --inplace` share build/lib and build/objects: neither compiles what the other has.

KOKO_DEBUG=1 builds with bounds checks, line tracing and annotated HTML (`make debug`). CFLAGS replaces the optimisation
flags chosen here.
"""

import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
PACKAGE = "koko_presence._fastpath"
DEBUG = os.environ.get("KOKO_DEBUG", "") not in ("", "0")
ALSO_IN_SDIST = (
    "_fastpath/*.pyx",
    "_fastpath/*.pxd",
    "_fastpath/*.pyi",
    "CHANGELOG.md",
    "deploy/**/*",
    "docs/**/*.[mw]*",
    "docs/*.json",
)
# -g would take a third of the compiler's time, and profilers find function names without it. -O2 would take another
# third off, but costs up to 3 % more instructions (`make instructions`).
OPTIMISE = ["-O3", "-g0"]
NEVER_SHIPPED = re.compile(r"(\.c|\.cpp|\.so|\.pyc)$|_fastpath/.*\.html$|__pycache__|^build/|web/tsconfig\.json$")


def own_version() -> str:
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "koko_presence/__init__.py").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit('setup.py: koko_presence/__init__.py has no line __version__ = "..."')
    return found[1]


def built_against(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        raise SystemExit(
            f"setup.py: {package} must be installed before anything is compiled. Use `make setup` or `pip install .`"
        ) from None


def link_package() -> Path:
    """A directory in which the compiled part is found under its installed name, for cimport and for mypy."""
    paths = ROOT / "build" / "paths"
    package = paths / "koko_presence"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    link = package / "_fastpath"
    if not link.is_symlink():
        link.symlink_to("../../../_fastpath", target_is_directory=True)
    return paths


def extensions() -> list[Extension]:
    """The longest sources first: started last, one of them would keep one processor busy while the others wait."""
    sources = sorted((ROOT / "_fastpath").glob("*.pyx"), key=lambda path: (-path.stat().st_size, path.name))
    return [Extension(f"{PACKAGE}.{path.stem}", [path.relative_to(ROOT).as_posix()]) for path in sources]


def processors() -> int:
    return len(os.sched_getaffinity(0))


def are_new(directives: dict[str, object], noted: Path) -> bool:
    """Whether what lies beside the file `noted` was translated with other directives, of which Cython takes no notice;
    these are noted there."""
    text = f"{sorted(directives.items())}\n"
    if noted.is_file() and noted.read_text() == text:
        return False
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(text)
    return True


class CompileExtensions(build_ext):
    """Runs Cython when, and only when, something is really compiled: an sdist needs neither it nor a compiler."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or processors()

    def run(self) -> None:
        if self.inplace or self.editable_mode:
            # setuptools would take a new temporary folder for each editable install and compile everything again
            self.build_lib, self.build_temp = str(ROOT / "build" / "lib"), str(ROOT / "build" / "objects")
        super().run()

    def build_extensions(self) -> None:
        from Cython.Build import cythonize

        # no code for pickling, which nothing does, and plain built-in functions in place of Cython's own, which can be
        # introspected: together a third of what the C compiler had to do
        directives: dict[str, object] = {"language_level": 3, "auto_pickle": False, "binding": False}
        macros = [
            ("KOKO_VERSION", f'"{own_version()}"'),
            ("KOKO_PICOWS", f'"{built_against("picows")}"'),
            ("KOKO_AIOFASTNET", f'"{built_against("aiofastnet")}"'),
        ]
        if DEBUG:
            directives |= {"boundscheck": True, "wraparound": True, "initializedcheck": True, "linetrace": True}
            macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
        folder = ROOT / "build" / ("debug" if DEBUG else "cython")
        translated = cythonize(
            self.extensions,
            nthreads=self.parallel,
            build_dir=folder.relative_to(ROOT).as_posix(),
            include_path=[str(link_package())],
            compiler_directives=directives,
            annotate=DEBUG,
            force=self.force or are_new(directives, folder / "directives"),
            quiet=True,
        )
        sources = {extension.name: extension.sources for extension in translated}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
            extension.depends = ["setup.py", "pyproject.toml", "koko_presence/__init__.py"]
            extension.define_macros = macros
            if "CFLAGS" not in os.environ and not DEBUG:
                extension.extra_compile_args = OPTIMISE
        super().build_extensions()


class BuildPackage(build_py):
    """Leaves out of the wheel what only a build needs."""

    def find_data_files(self, package: str, src_dir: str) -> list[str]:
        return [name for name in super().find_data_files(package, src_dir) if not NEVER_SHIPPED.search(name)]


class SourceDistribution(sdist):
    """Says here, in place of a MANIFEST.in, what the sdist holds beyond the package."""

    def make_distribution(self) -> None:
        for pattern in ALSO_IN_SDIST:
            self.filelist.extend(
                path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob(pattern)) if path.is_file()
            )
        self.filelist.exclude_pattern(NEVER_SHIPPED, is_regex=True)
        self.filelist.remove_duplicates()
        super().make_distribution()


setup(
    version=own_version(),
    packages=[
        *find_packages(include=["koko_presence", "koko_presence.*"], exclude=["koko_presence.protocol.generate"]),
        PACKAGE,
    ],
    package_dir={PACKAGE: "_fastpath"},
    package_data={"koko_presence": ["py.typed", "*.pyi", "web/**/*"], PACKAGE: ["*.pyi", "*.pxd"]},
    include_package_data=False,
    ext_modules=extensions(),
    cmdclass={"build_ext": CompileExtensions, "build_py": BuildPackage, "sdist": SourceDistribution},
    zip_safe=False,
)
