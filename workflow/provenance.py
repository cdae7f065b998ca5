"""What a campaign ran with: image or scripts, runtime, package, host and command. It goes into the journal."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workflow import __version__
from workflow.config.strict import HOME
from workflow.image import digest, read_image
from workflow.runtimes import Model
from workflow.site import Site

_CONTENTS = 256 << 20
"""Bytes of files up to which their contents are compared; of more, names, sizes and modification times."""


def provenance(model: Model, site: Site, known: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """The record's keys. ``known`` are those of the run's last one; an image that hasn't changed isn't read again."""
    found = {
        "host": socket.gethostname(),
        "package": __version__,
        "commit": _commit(),
        "command": shlex.join([sys.executable, "-m", "workflow.run", *sys.argv[1:]]),
        "site": site.name,
        "workers": site.capacity,
        "gpus": list(site.gpus),
    }
    if site.endpoint is not None:  # the model is where it cannot be read from here
        return {**found, "endpoint": site.endpoint.id, "image": {"path": model.image} if model.image else None}
    if model.image is None:
        scripts = Path(str(model.scripts))
        code = files_digest([*sorted(scripts.glob("*.sh")), *sorted(scripts.glob("*.py"))])
        return {**found, "scripts": {"path": model.scripts, "sha256": files_digest([scripts]), "code": code}}
    image = digest(read_image(Path(model.image)), known.get("image") or {}, say)
    program = next(filter(shutil.which, site.container.programs), None)
    if program is not None:
        image["labels"] = _labels(program, model.image)
        found["runtime"] = _output([program, "--version"])
    return {**found, "image": image}


def model_digest(record: Mapping[str, Any]) -> str | None:
    """The digest of what was run, of a record with ``provenance``; None where it isn't known (a sandbox image)."""
    digests = [record[key].get("sha256") for key in ("image", "scripts") if record.get(key)]
    return digests[0] if digests else None


def identity(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """What tells one model from another, and the same in words; None where nothing is known.

    A sandbox is known by its place and time, scripts on the host by their code.
    """
    kind = next((key for key in ("image", "scripts") if record.get(key)), None)
    if kind is None:
        return None
    about = record[kind]
    if digest := about.get("code", about.get("sha256")):
        return str(digest), f"{kind} {about.get('path')} (sha256 {digest[:12]})"
    stamp = f"{about.get('path')}, modified at {(about.get('modified') or 0) / 1e9:.0f}"
    return stamp, f"{kind} {stamp}"


def files_digest(paths: Iterable[Path], without: Iterable[Path] = ()) -> str:
    """A digest of all files at and below the paths, by their names below them, sizes and contents.

    Directories in ``without`` are passed over.

    Where there is too much of it, modification times stand for contents.
    """
    files = [(path, file) for path in paths for file in _files(path, set(without))]
    whole = sum(file.stat().st_size for _, file in files) <= _CONTENTS
    found = hashlib.sha256()
    for path, file in files:
        status = file.stat()
        content = hashlib.sha256(file.read_bytes()).hexdigest() if whole else str(status.st_mtime_ns)
        found.update(json.dumps([str(file.relative_to(path)), status.st_size, content]).encode())
    return found.hexdigest()


def holds_more_files(path: Path, number: int, without: Iterable[Path] = ()) -> bool:
    """Whether there are more files than that at and below a path; stops to look at the first one too many."""
    return next(itertools.islice(_files(path, set(without)), number, None), None) is not None


def _files(path: Path, without: set[Path]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for directory, names, files in os.walk(path):
        names[:] = sorted(n for n in names if n != "__pycache__" and Path(directory, n) not in without)
        yield from (Path(directory, name) for name in sorted(files) if Path(directory, name).is_file())


def _commit() -> str | None:
    """The commit of the checkout that the package runs from, with a + where it was changed; None if it is installed."""
    if not (HOME.parent / ".git").exists() or shutil.which("git") is None:
        return None
    commit = _output(["git", "-C", str(HOME.parent), "rev-parse", "HEAD"])
    changed = _output(["git", "-C", str(HOME.parent), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit}{'+' if changed else ''}" if commit else None


def _labels(program: str, image: str) -> dict[str, Any]:
    try:
        inspected = json.loads(_output([program, "inspect", "--json", "--labels", image]))
        return dict(inspected["data"]["attributes"]["labels"] or {})
    except (ValueError, LookupError, TypeError):
        return {}


def _output(command: list[str]) -> str:
    """What a command prints; empty where it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
