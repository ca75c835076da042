"""The sdist and the wheel contain the right files, and the wheel runs from any folder."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from koko_presence import __version__
from koko_presence._fastpath import build_info

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "node_modules", "*.egg-info", "*.so", "__pycache__", ".*_cache"
)

WEB = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "koko_presence/web").rglob("*")
    if path.suffix in (".js", ".ts", ".css", ".json", ".md", ".html") and path.name != "tsconfig.json"
}
GENERATE = ROOT / "koko_presence/protocol/generate"  # for developers: what it makes is packed


def modules() -> set[str]:
    """The modules of the package that are packed."""
    found = (path for path in (ROOT / "koko_presence").rglob("*.py") if GENERATE not in path.parents)
    return {path.relative_to(ROOT).as_posix() for path in found}


def call(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed; return its output."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KOKO_"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist of a copy of the tree that contains generated files, and the wheel that is made from the sdist."""
    tree = tmp_path_factory.mktemp("tree") / "source"
    shutil.copytree(ROOT, tree, ignore=NOT_SOURCE)
    for stray in ("_fastpath/stray.c", "koko_presence/stray.c", "koko_presence/web/stray.so", "build/stray.py"):
        (tree / stray).parent.mkdir(exist_ok=True)
        (tree / stray).write_text("")
    call(sys.executable, "-m", "build", "--no-isolation", cwd=tree)
    return tree / "dist"


@pytest.fixture(scope="module")
def sdist_names(dist: Path) -> set[str]:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_sdist_holds_all_it_takes_to_build(sdist_names: set[str]) -> None:
    ours = modules()
    compiled = {path.relative_to(ROOT).as_posix() for path in (ROOT / "_fastpath").glob("*.p[yx]*")}
    needed = {"pyproject.toml", "setup.py", "LICENSE", "koko_presence/py.typed"}
    assert ours | compiled | needed | WEB <= sdist_names
    assert any(name.endswith(".pyx") for name in compiled) and any(name.endswith(".pyi") for name in compiled)


def test_the_sdist_holds_nothing_generated(sdist_names: set[str]) -> None:
    assert [name for name in sdist_names if name.endswith((".c", ".so", ".pyc")) or name.startswith("build/")] == []


def test_the_wheel_holds_the_package_its_stubs_and_the_web(wheel_names: set[str]) -> None:
    ours = modules()
    stubs = {f"koko_presence/_fastpath/{path.name}" for path in (ROOT / "_fastpath").glob("*.pyi")}
    assert ours | stubs | WEB | {"koko_presence/py.typed"} <= wheel_names
    for source in (ROOT / "_fastpath").glob("*.pyx"):
        assert any(re.fullmatch(rf"koko_presence/_fastpath/{source.stem}\..*\.so", name) for name in wheel_names)


def test_the_wheel_holds_no_c_and_nothing_beside_the_package(wheel_names: set[str]) -> None:
    assert [name for name in wheel_names if name.endswith((".c", ".pyc", ".pyx")) or "stray" in name] == []
    assert not [name for name in wheel_names if "/generate/" in name or name.endswith("tsconfig.json")]
    assert {name.split("/")[0] for name in wheel_names} == {"koko_presence", f"koko_presence-{__version__}.dist-info"}


def test_the_wheel_runs_in_an_empty_environment_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=tmp_path)
    said = call(tmp_path / "env/bin/koko-presence", "version", cwd=tmp_path)
    assert f"koko-presence {__version__}" in said and f"compiled {__version__} (picows " in said
    where = call(python, "-c", "import koko_presence._fastpath as f; print(f.__file__)", cwd=tmp_path)
    assert where.startswith(str(tmp_path))


def test_the_compiled_part_refuses_another_picows_than_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    build_info.check_abi()
    monkeypatch.setattr(build_info, "installed_version", lambda package: "9.9.9")
    with pytest.raises(ImportError, match=r"built against picows \S+, found 9\.9\.9: reinstall koko-presence"):
        build_info.check_abi()


def test_every_version_is_pinned_and_the_build_uses_the_run_time_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run_time = project["project"]["dependencies"]
    build = project["build-system"]["requires"]
    dev = project["dependency-groups"]["dev"]
    assert [line for line in (*run_time, *build, *dev) if not re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", line)] == []
    assert {line for line in build if line.startswith(("picows", "aiofastnet"))} <= set(run_time)
    assert {line for line in build if line.startswith(("setuptools", "cython"))} <= set(dev)
    assert len(build) == 4
