"""Writes deploy/requirements.txt and deploy/requirements-build.txt: all packages that serving and building take, the
dependencies of dependencies included, each with its version and the hashes of its wheels. `make pins` calls it.

    python deploy/pins.py           write both files, after pyproject.toml has changed
    python deploy/pins.py --check   say what is missing in them, without a network; exit code 1 when something is

pip is asked for each Python and processor below what it would install; nothing is installed. Where a package comes from
is pip's configuration and stands in no file.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PROCESSORS = ("x86_64", "aarch64")  # with glibc
GLIBC = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")  # Debian 11 and newer
HEAD = "# Written by `make pins` from pyproject.toml. pip installs nothing else (--require-hashes).\n"

Pins = dict[str, tuple[str, set[str]]]  # name -> version, hashes


def wanted() -> dict[Path, list[str]]:
    """What pyproject.toml pins, by the file that has it with all that it takes."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    return {
        ROOT / "deploy/requirements.txt": project["project"]["dependencies"],
        ROOT / "deploy/requirements-build.txt": project["build-system"]["requires"],
    }


def normal(name: str) -> str:
    """A package's name as all spellings of it become."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ask(requirements: list[str], python: str, processor: str) -> Pins:
    """What pip would install, and the hash of each file. Errors: CalledProcessError."""
    with tempfile.TemporaryDirectory() as nowhere:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--quiet",
            "--report",
            "-",
        ]
        command += ["--only-binary=:all:", "--target", nowhere, "--implementation", "cp", "--python-version", python]
        for glibc in GLIBC:
            command += ["--platform", f"{glibc}_{processor}"]
        report = json.loads(subprocess.run([*command, *requirements], check=True, stdout=subprocess.PIPE).stdout)
    found: Pins = {}
    for each in report["install"]:
        hashes = each["download_info"]["archive_info"]["hashes"]
        found[normal(each["metadata"]["name"])] = (each["metadata"]["version"], {hashes["sha256"]})
    return found


def gather(requirements: list[str]) -> Pins:
    """The same for all Pythons and processors together. Errors: SystemExit when they would get different versions."""
    gathered: Pins = {}
    for python in PYTHONS:
        for processor in PROCESSORS:
            for name, (version, hashes) in ask(requirements, python, processor).items():
                known, so_far = gathered.setdefault(name, (version, set()))
                if known != version:
                    raise SystemExit(f"{name}: {known} and, for Python {python} on {processor}, {version}")
                so_far |= hashes
    return gathered


def text_of(pins: Pins) -> str:
    """The file's text."""
    lines = [HEAD]
    for name, (version, hashes) in sorted(pins.items()):
        lines.append(
            " \\\n".join([f"{name}=={version}", *(f"    --hash=sha256:{each}" for each in sorted(hashes))]) + "\n"
        )
    return "".join(lines)


def read(text: str) -> Pins:
    """A file's text, as `text_of` has made it. Errors: ValueError for a line that pins nothing."""
    found: Pins = {}
    for line in text.replace("\\\n", " ").splitlines():
        if not line or line.startswith("#"):
            continue
        name, *hashes = line.split()
        pinned = re.fullmatch(r"([a-z0-9-]+)==(\S+)", name)
        if pinned is None or not hashes or not all(re.fullmatch("--hash=sha256:[0-9a-f]{64}", each) for each in hashes):
            raise ValueError(f"{line[:60]}: no name==version with hashes")
        found[pinned[1]] = (pinned[2], {each.partition(":")[2] for each in hashes})
    return found


def missing(requirements: list[str], pins: Pins) -> list[str]:
    """What pyproject.toml pins and `pins` has not, or in another version."""
    found = []
    for requirement in requirements:
        name, _, version = re.sub(r"\[.*\]", "", requirement).partition("==")
        if pins.get(normal(name), ("", set()))[0] != version:
            found.append(requirement)
    return found


def main() -> int:
    checking = sys.argv[1:] == ["--check"]
    faults = 0
    for path, requirements in wanted().items():
        if not checking:
            path.write_text(text_of(gather(requirements)))
        for requirement in missing(requirements, read(path.read_text())):
            print(f"{path.relative_to(ROOT)} lacks {requirement}: run  make pins")
            faults = 1
    return faults


if __name__ == "__main__":
    sys.exit(main())
