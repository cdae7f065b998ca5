"""A release: version and date, all checks, sdist and wheel, a commit and its tag. Nothing is pushed.

    python scripts/release.py 0.2.0

Needs the extra ``test``, a tree without changes, a version above all released ones, and entries in CHANGELOG.md below a
heading that ends in ``(unreleased)``; otherwise it changes nothing. If anything fails, version and date are taken back.
"""

from __future__ import annotations

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, CHANGELOG = ROOT / "workflow" / "__init__.py", ROOT / "CHANGELOG.md"
UNRELEASED = re.compile(r"^## .*\(unreleased\)$")
RELEASED = re.compile(r"^## (\d+)\.(\d+)\.(\d+) \(\d{4}-\d\d-\d\d\)$")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", help="MAJOR.MINOR.PATCH")
    parser.add_argument("--checks", default=".ci/run", metavar="COMMAND", help="all checks (.ci/run)")
    args = parser.parse_args()
    if troubles := list(refusals(args.version, CHANGELOG.read_text().splitlines())):
        raise SystemExit("\n".join(f"no release: {trouble}" for trouble in troubles))
    write(args.version, datetime.datetime.now(datetime.UTC).date())
    try:
        run("bash", "-c", args.checks)
        wheel = build(args.version)
        try_out(wheel, args.version)
        run("git", "commit", "--quiet", "--message", f"Release {args.version}", str(PACKAGE), str(CHANGELOG))
    except BaseException:
        run("git", "checkout", "--quiet", "HEAD", "--", str(PACKAGE), str(CHANGELOG))
        raise
    run("git", "tag", "--annotate", f"v{args.version}", "--message", f"Release {args.version}")
    print(f"dist/ has sdist and wheel of {args.version}; publish it by: git push origin HEAD v{args.version}")


def refusals(version: str, changelog: list[str]) -> Iterator[str]:
    """What must be mended first."""
    released = [tuple(map(int, found.groups())) for line in changelog if (found := RELEASED.match(line))]
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        yield f"the version {version!r} is not of the form 0.2.0"
    elif released and tuple(map(int, version.split("."))) <= max(released):
        yield f"{version} is not newer than {'.'.join(map(str, max(released)))}, which CHANGELOG.md has"
    if run("git", "tag", "--list", f"v{version}"):
        yield f"there is a tag v{version}"
    if not entries(changelog):
        yield "CHANGELOG.md has no entry below a heading '## ... (unreleased)'"
    if changed := run("git", "status", "--porcelain"):
        yield f"the tree has changes; commit them, or put them aside:\n{changed}"


def entries(changelog: list[str]) -> list[str]:
    """The lines that tell what is new, of the part that is unreleased."""
    found: list[str] = []
    inside = False
    for line in changelog:
        if line.startswith("## "):
            inside = UNRELEASED.match(line) is not None
        elif inside and line.startswith("- "):
            found.append(line)
    return found


def write(version: str, day: datetime.date) -> None:
    """The version into the package, and its date into the change log."""
    text = re.sub(r'^__version__ = ".*"$', f'__version__ = "{version}"', PACKAGE.read_text(), flags=re.M)
    PACKAGE.write_text(text)
    heading = re.compile(UNRELEASED.pattern, flags=re.M)
    CHANGELOG.write_text(heading.sub(f"## {version} ({day})", CHANGELOG.read_text(), count=1))


def build(version: str) -> Path:
    """Sdist and wheel in dist/, in this environment; the wheel's path."""
    run(sys.executable, "-m", "hatchling", "build")
    return ROOT / "dist" / f"workflow-{version}-py3-none-any.whl"


def try_out(wheel: Path, version: str) -> None:
    """Install it into an environment of its own, and ask it who it is."""
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        python = f"{scratch}/bin/python"
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel))
        told = run(python, "-m", "workflow.run", "--version", directory=Path(scratch))
    if told != f"workflow {version}":
        raise SystemExit(f"{wheel.name} says that it is {told!r}")


def run(*command: str, directory: Path = ROOT) -> str:
    """What a command prints; its errors go to the terminal. Raises SystemExit where it fails."""
    done = subprocess.run(command, cwd=directory, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{done.stdout}no release: {' '.join(command)} ended with exit code {done.returncode}")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
