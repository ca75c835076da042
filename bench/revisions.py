"""Another revision of this project beside this one, compiled, in build/revisions/: for bench.check --base.

A revision is taken out of git once (no work tree that git would have to know of), compiled with the packages of the
interpreter that runs this, in as many processes as there are cores, and kept by its commit; the oldest are removed.
Where nothing that is compiled differs, what this one has is copied.
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

# Run in a revision's directory: its own setup.py, with every n-th of its extensions only.
COMPILE_SOME = """
import sys
from distutils.core import run_setup
first, step = map(int, sys.argv[1:])
distribution = run_setup("setup.py", ["--quiet", "build_ext", "--inplace"], stop_after="commandline")
distribution.ext_modules = distribution.ext_modules[first::step]
distribution.run_commands()
"""


def resolve(revision: str) -> str:
    """The whole commit id of what git understands. Errors: SystemExit."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(f"bench-check: git knows no revision {revision!r} (BASE=main, BASE=HEAD~3, BASE=1a2b3c4)")
    return said.stdout.strip()


def built(revision: str) -> Path:
    """The directory of this revision, compiled. Errors: SystemExit."""
    commit = resolve(revision)
    REVISIONS.mkdir(parents=True, exist_ok=True)
    tree, done = REVISIONS / commit[:12], REVISIONS / commit[:12] / ".compiled"
    with (REVISIONS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once take turns
        if not done.exists() or done.read_text() != sys.version:
            print(f"bench-check: building {commit[:12]} in {tree.relative_to(ROOT)}", flush=True)
            shutil.rmtree(tree, ignore_errors=True)
            _take_out(commit, tree)
            if not _same_sources(tree) or not _copied(tree):
                _compile(tree)
            # every process of bench.paired would compile these again where nothing may be written
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
    # Imported from here, the package finds its compiled part here too, and not where the interpreter has it installed.
    (tree / "koko_presence" / "_fastpath").symlink_to("../_fastpath", target_is_directory=True)


def _same_sources(tree: Path) -> bool:
    """Whether what is compiled is the same here and there, to the byte."""

    def sources(root: Path) -> dict[str, bytes]:
        files = [root / "setup.py", root / "pyproject.toml", root / "koko_presence" / "__init__.py"]
        files += [path for path in (root / "_fastpath").iterdir() if path.suffix in (".pyx", ".pxd")]
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    return sources(tree) == sources(ROOT)


def _copied(tree: Path) -> bool:
    """This one's compiled part into `tree`, if it is complete and was made for speed and not for debugging."""
    compiled = list((ROOT / "_fastpath").glob("*.so"))
    made = ROOT / ".venv" / ".compiled"
    fast = made.exists() and made.read_text().startswith("fast")
    if not fast or len(compiled) != len(list((tree / "_fastpath").glob("*.pyx"))):
        return False
    for path in compiled:
        shutil.copy2(path, tree / "_fastpath")
    return True


def _compile(tree: Path) -> None:
    paths = tree / "build" / "paths" / "koko_presence"  # as its setup.py makes it: here, or several would at once
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
