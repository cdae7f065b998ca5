"""Files of JSON lines that grow; a last line that an interruption cut off is dropped. Those to be kept are packed."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKED = ".gz"


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in _text(path).split("\n")[:-1]]


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    return gzip.decompress(path.read_bytes()).decode() if path.suffix == PACKED else path.read_text()


def pack(path: Path, data: Iterable[Any]) -> None:
    """Write a packed file, the same one for the same data."""
    text = "".join(json.dumps(each) + "\n" for each in data)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def mend(path: Path) -> None:
    """Remove what follows the last whole line, so that a next one can be appended."""
    if path.exists():
        text = path.read_text()
        path.write_text(text[: text.rfind("\n") + 1])


def append(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(data) + "\n")
