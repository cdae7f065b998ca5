#!/usr/bin/env python3
"""Build an image without an image hub, out of this machine's own files: for tests.

    build_local_image.py DEF_DIR OUT.sif [PACKAGE ...]       the image of DEF_DIR/model.def
    build_local_image.py --files DIR OUT.sif [PACKAGE ...]   an image with DIR's files in /usr/local/bin

The root tree is copied from this Debian machine's packages: a shell, coreutils and the like, and Python with its
standard library. Of model.def only the header, which names an image of a hub, is replaced; its sections are used as
they are. PACKAGEs are what pip installs before. pip finds packages as it does on this machine, and nothing of that
stays in the image.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# What scripts and wheels use of the image python:3-slim; the packages that these need come along.
PACKAGES = ["bash", "coreutils", "dash", "debianutils", "findutils", "grep", "gzip", "libc-bin", "libstdc++6", "mawk"]
PACKAGES += ["python3", "sed", "tar", "util-linux"]
OPTIONAL = ["libgomp1"]  # python:3-slim has none, but some wheels need it
UNUSED = ["debconf"]  # a library depends on it, and it depends on Perl
# Beside documentation: what this machine may have changed, and the marker that keeps pip out of Debian's Python.
LEFT_OUT = re.compile(r"/usr/share/|/var/|/etc/(?!python3|mime.types|os-release)|.*/gconv/|.*/EXTERNALLY-MANAGED$")

# Where pip finds packages. Its other settings may name places that are none in the image.
PIP_SETTINGS = ["cert", "client-cert", "constraint", "default-timeout", "extra-index-url", "find-links", "index-url"]
PIP_SETTINGS += ["no-index", "proxy", "retries", "timeout", "trusted-host"]
PROXIES = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"]
HOST = "/mnt"  # where %post sees this machine's files, for paths in pip's settings


class BuildError(Exception):
    """Says what is missing, and the remedy."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true", help="DIR holds scripts, and no model.def counts")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("image", type=Path, metavar="OUT.sif")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help='a requirement, such as "numpy>=1.26"')
    args = parser.parse_args()
    try:
        build(args.folder, args.image, args.packages, scripts_only=args.files)
    except BuildError as error:
        print(f"build_local_image: error: {error}", file=sys.stderr)
        return 1
    return 0


def build(folder: Path, image: Path, packages: list[str], *, scripts_only: bool) -> None:
    """Build the image; an existing one is replaced."""
    for tool in ("apptainer", "/usr/bin/python3"):
        if not shutil.which(tool):
            raise BuildError(f"no {tool} here: run scripts/install_test_parts.sh apptainer")
    if not folder.is_dir():
        raise BuildError(f"no folder {folder}")
    sections = "" if scripts_only else read_sections(folder / "model.def")
    if packages:
        sections = f"%post\n    pip install --no-cache-dir {shlex.join(packages)}\n\n{sections}"

    with tempfile.TemporaryDirectory() as scratch:
        # The image keeps its def file, so names in there are relative: to this directory, which therefore also shows
        # the entries of the model's folder.
        directory = Path(scratch, "build")
        tree = directory / "debian-root"
        copy_root(tree)
        if scripts_only:
            for path in folder.iterdir():
                copy = shutil.copytree if path.is_dir() else shutil.copy
                Path(copy(path, tree / "usr/local/bin" / path.name)).chmod(0o755)
        else:
            for path in folder.resolve().iterdir():
                (directory / path.name).symlink_to(path)
        definition = Path(scratch, "local.def")
        definition.write_text(f"Bootstrap: localimage\nFrom: {tree.name}\n\n{sections}")

        command = ["apptainer", "build", "--force", "--fakeroot", "--disable-cache"]
        # The lowest level of zstd: far faster than gzip, the default (1 s for 16 s), for an image a tenth larger.
        command += ["--mksquashfs-args", "-comp zstd -Xcompression-level 1"]
        variables = dict(os.environ)
        if re.search(r"^%post\b", sections, re.MULTILINE):
            add_pip(tree)
            command += ["--bind", f"/:{HOST}:ro"]
            variables |= {f"APPTAINERENV_{name}": value for name, value in settings_for_pip().items()}
        command += [str(image.resolve()), str(definition)]
        done = subprocess.run(command, cwd=directory, env=variables, text=True, capture_output=True)
        if done.returncode:
            raise BuildError(f"apptainer could not build {image}:\n{done.stdout}{done.stderr}")


def read_sections(path: Path) -> str:
    """Return a def file without its header."""
    if not path.is_file():
        raise BuildError(f"no def file {path}")
    text = path.read_text(encoding="utf-8")
    if len(re.findall(r"^bootstrap:", text, re.MULTILINE | re.IGNORECASE)) != 1:
        raise BuildError(f"{path} has not exactly one Bootstrap line: stages cannot be built here")
    start = re.search(r"^%", text, re.MULTILINE)
    return text[start.start() :] if start else ""


def copy_root(tree: Path) -> None:
    """Make the root tree of an image from this machine's packages."""
    for name in ("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "sys", "tmp", "usr/local/bin", "var/tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (tree / name).chmod(0o1777)
    for link in Path("/").iterdir():  # /bin and the like
        if link.is_symlink() and str(link.readlink()).startswith("usr/"):
            (tree / link.name).symlink_to(link.readlink())
    # cp: faster than Python here, and it keeps the times by which Python knows its bytecode.
    run("cp", "-d", "--preserve=mode,timestamps", "--parents", f"--target-directory={tree}", *package_files(), cwd="/")
    for name, target in {"awk": "mawk", "which": "which.debianutils"}.items():  # links that no package holds
        (tree / "usr/bin" / name).symlink_to(target)
    (tree / "usr/local/bin/python").symlink_to("/usr/bin/python3")
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    for name in ("hosts", "localtime", "resolv.conf"):  # apptainer binds this machine's over them
        (tree / "etc" / name).touch()


def package_files() -> list[str]:
    """Return the files of PACKAGES and of all that they need, relative to the root."""
    fields = r"${Package}\t${binary:Package}\t${Architecture}\t${Pre-Depends},${Depends}\n"
    output = run("dpkg-query", "-W", "-f", fields)
    architectures = {"all", run("dpkg", "--print-architecture").strip()}
    rows = [line.split("\t") for line in output.splitlines()]
    installed = {name: (full, needs) for name, full, architecture, needs in rows if architecture in architectures}
    if missing := [name for name in PACKAGES if name not in installed]:
        raise BuildError(f"this machine lacks packages that the image is made of: apt-get install {' '.join(missing)}")
    chosen: set[str] = set()
    todo = PACKAGES + OPTIONAL
    while todo:
        name = todo.pop()
        if name in installed and name not in chosen and name not in UNUSED:
            chosen.add(name)
            todo += re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)", installed[name][1])
    files = set()
    for path in map(Path, run("dpkg-query", "-L", *(installed[name][0] for name in chosen)).splitlines()):
        place = path.parent.resolve()  # packages may say /bin for /usr/bin
        if not LEFT_OUT.match(str(path)) and (path.is_symlink() or path.is_file()) and place != Path("/"):
            files.add(place / path.name)
            if path.suffix == ".py":
                files.update(place.glob(f"__pycache__/{path.stem}.cpython-*.pyc"))
    return sorted(str(path.relative_to("/")) for path in files)


def add_pip(tree: Path) -> None:
    """Copy pip, which Debian's Python lacks, into the tree."""
    try:
        pip = importlib.metadata.distribution("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(f"{sys.executable} has no pip: run this with a Python that has it") from error
    (library,) = tree.glob("usr/lib/python3.*")
    for file in pip.files or []:
        if ".." not in file.parts and file.suffix != ".pyc":
            target = tree / "usr/local/lib" / library.name / "dist-packages" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(file.locate()), target)
    for name in ("pip", "pip3"):
        command = tree / "usr/local/bin" / name
        command.write_text('#!/bin/sh\nexec python3 -m pip "$@"\n')
        command.chmod(0o755)


def settings_for_pip() -> dict[str, str]:
    """Return the variables by which pip in %post finds packages as pip does here."""
    found = {}
    lines = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):  # variables win over files
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PIP_SETTINGS:
            # Paths, and URLs of files, as %post sees them.
            seen = re.sub(r"(?<!\S)(file://)?(/\S*)", rf"\1{HOST}\2", ast.literal_eval(value))
            found["PIP_" + option.upper().replace("-", "_")] = " ".join(seen.split())
    return {**found, **{name: os.environ[name] for name in PROXIES if name in os.environ}}


def run(*command: str, cwd: str | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, text=True, capture_output=True)
    if done.returncode:
        raise BuildError(f"{shlex.join(command[:3])} failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
