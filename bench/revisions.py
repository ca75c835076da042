"""Builds another revision of this project in build/revisions/, for bench.check --base.

A revision is exported from git once (without a work tree), compiled with the packages of the running interpreter, in
one process per core, and kept under its commit; the oldest are removed. If the compiled sources are identical, the
compiled files of this tree are copied.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
REVISIONS = ROOT / "build" / "revisions"
KEPT = 5

# Runs in the directory of a revision: its own setup.py, with every n-th of its extensions.
COMPILE_SOME = """
import sys
from distutils.core import run_setup
first, step = map(int, sys.argv[1:])
distribution = run_setup("setup.py", ["--quiet", "build_ext", "--inplace"], stop_after="commandline")
distribution.ext_modules = distribution.ext_modules[first::step]
distribution.run_commands()
"""


def resolve(revision: str) -> str:
    """The full commit id of a revision. Errors: SystemExit."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"bench-check: git knows no revision {revision!r} (BASE=main, BASE=HEAD~3, BASE=1a2b3c4)")
    return said.stdout.strip()


def built(revision: str) -> Path:
    """The directory of the compiled revision. Errors: SystemExit."""
    commit = resolve(revision)
    REVISIONS.mkdir(parents=True, exist_ok=True)
    tree, done = REVISIONS / commit[:12], REVISIONS / commit[:12] / ".compiled"
    with (REVISIONS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # concurrent runs wait for each other
        if not done.exists() or done.read_text() != sys.version:
            print(f"bench-check: building {commit[:12]} in {tree.relative_to(ROOT)}", flush=True)
            shutil.rmtree(tree, ignore_errors=True)
            _take_out(commit, tree)
            if not _same_sources(tree) or not _copied(tree):
                _compile(tree)
            # otherwise every process of bench.paired would compile these where the directory is read-only
            command = [sys.executable, "-m", "compileall", "-q", "koko_presence", "bench", "tests"]
            subprocess.run(command, cwd=tree, check=False)
            done.write_text(sys.version)
        os.utime(done)
        others = sorted(REVISIONS.glob("*/.compiled"), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in others[KEPT:]:
            shutil.rmtree(old.parent)
    return tree


def _take_out(commit: str, tree: Path) -> None:
    tree.mkdir()
    with subprocess.Popen(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", str(tree)], stdin=archive.stdout, check=True)
    if archive.returncode:
        raise SystemExit(f"bench-check: git archive {commit} failed")
    # Imported from this tree, the package must find the compiled part of this tree, not the installed one.
    (tree / "koko_presence" / "_fastpath").symlink_to("../_fastpath", target_is_directory=True)


def _same_sources(tree: Path) -> bool:
    """Whether the compiled sources are byte-identical."""

    def sources(root: Path) -> dict[str, bytes]:
        files = [root / "setup.py", root / "pyproject.toml", root / "koko_presence" / "__init__.py"]
        files += [path for path in (root / "_fastpath").iterdir() if path.suffix in (".pyx", ".pxd")]
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    return sources(tree) == sources(ROOT)


def _copied(tree: Path) -> bool:
    """Copy the compiled files of this tree to `tree`, if they are complete and an optimised build. Returns whether that
    was done."""
    compiled = list((ROOT / "_fastpath").glob("*.so"))
    made = ROOT / ".venv" / ".compiled"
    fast = made.exists() and made.read_text().startswith("fast")
    if not fast or len(compiled) != len(list((tree / "_fastpath").glob("*.pyx"))):
        return False
    for path in compiled:
        shutil.copy2(path, tree / "_fastpath")
    return True


def _compile(tree: Path) -> None:
    # as setup.py creates it; created here, since several processes would create it at once
    paths = tree / "build" / "paths" / "koko_presence"
    paths.mkdir(parents=True)
    (paths / "__init__.py").touch()
    (paths / "_fastpath").symlink_to("../../../_fastpath", target_is_directory=True)
    step = len(os.sched_getaffinity(0))
    env = {name: value for name, value in os.environ.items() if name != "KOKO_DEBUG"}
    running = []
    for first in range(step):
        command = [sys.executable, "-c", COMPILE_SOME, str(first), str(step)]
        output = subprocess.PIPE
        running.append(subprocess.Popen(command, cwd=tree, env=env, stdout=output, stderr=subprocess.STDOUT, text=True))
    said = [process.communicate()[0] for process in running]
    failed = [text for process, text in zip(running, said, strict=True) if process.returncode]
    if failed:
        raise SystemExit(f"{failed[0][-4000:]}\nbench-check: that revision does not compile here")
