"""Container images as files: what kind, for which architecture, whether whole, and their digest.

The layout of a SIF file is that of its version 1 (github.com/sylabs/sif, package sif): a global header of 128 bytes,
then descriptors of 585 bytes each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow.errors import InputError

_HEADER = struct.Struct("<32s10s3s3s16s8q")
_DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
_MAGIC = b"SIF_MAGIC"
_ARCHITECTURES = {
    b"01": "i386", b"02": "x86_64", b"03": "arm", b"04": "aarch64", b"05": "ppc64", b"06": "ppc64le", b"11": "s390x",
    b"12": "riscv64",
}  # fmt: skip
_LARGE = 2 << 30
_BLOCK = 1 << 24


class ImageError(Exception):
    """An image that cannot be used; ``remedy`` says what helps."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy

    def as_input(self, image: str | None, entry: str = "model.image") -> InputError:
        """The same as an error of the experiment's ``entry``."""
        return InputError(f"{entry}: {image}: {self}\n    -> {self.remedy}")


@dataclass(frozen=True)
class Image:
    """``kind`` is sif or sandbox; ``architecture`` as ``uname -m`` names it, empty if unknown; ``size`` is in bytes."""

    path: Path
    kind: str
    architecture: str
    size: int

    @property
    def runs_here(self) -> bool:
        return self.architecture in ("", platform.machine())


def read_image(path: Path) -> Image:
    """Look at an image without a container runtime. Raises ImageError."""
    try:
        if path.is_dir():
            return _sandbox(path)
        if path.exists() and not path.is_file():
            raise ImageError("is no file", "name a .sif file")
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            size = os.fstat(file.fileno()).st_size
            _, magic, _, architecture, _, *numbers = _HEADER.unpack(header.ljust(_HEADER.size, b"\0"))
            if not magic.startswith(_MAGIC):
                raise ImageError("is no SIF image (its header says so)", "build or pull it again, as a .sif file")
            _, _, free, total, offset, *_ = numbers
            file.seek(offset)
            table = file.read((total - free) * _DESCRIPTOR.size)
    except OSError as error:
        raise ImageError(f"cannot be read ({error.strerror})", "check its path and its permissions") from error
    except (ValueError, OverflowError, MemoryError) as error:
        raise ImageError("has a damaged header", "copy, pull or build it again") from error
    ends = [
        _end(descriptor)
        for descriptor in _DESCRIPTOR.iter_unpack(table[: len(table) // _DESCRIPTOR.size * _DESCRIPTOR.size])
    ]
    whole = len(table) == (total - free) * _DESCRIPTOR.size and ends
    if not whole or max(ends) > size:
        wanted = f" of {max(ends)}" if whole else ""
        raise ImageError(f"is truncated: it has {size}{wanted} bytes", "copy, pull or build it again")
    return Image(path, "sif", _ARCHITECTURES.get(architecture.rstrip(b"\0"), ""), size)


def _end(descriptor: tuple[Any, ...]) -> int:
    _, used, _, _, _, offset, size, *_ = descriptor
    return int(offset + size) if used else 0


def _sandbox(path: Path) -> Image:
    if not (path / ".singularity.d").is_dir():
        raise ImageError("is a directory, but no sandbox image", "name the .sif file, or build with --sandbox")
    return Image(path, "sandbox", "", 0)


def digest(image: Image, known: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """SHA-256 of a SIF file with what identifies the file; a file that is as ``known`` is not read again.

    A sandbox, which has no single content, gets its path and modification time.
    """
    stamp = _stamp(image.path)
    if {key: known.get(key) for key in stamp} == stamp:
        return dict(known)
    if image.kind == "sandbox":
        return {**stamp, "sha256": None}
    if image.size > _LARGE:
        say(f"reading {image.path} ({image.size / 2**30:.1f} GiB) for its digest")
    return {**stamp, "sha256": _sha256(image.path)}


def _stamp(path: Path) -> dict[str, Any]:
    """What tells one file or sandbox from another without a look into it."""
    with contextlib.suppress(PermissionError):
        os.close(os.open(path, os.O_RDONLY))  # what makes a network disk look
    status = path.stat()
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return {"path": str(path), "size": size, "modified": status.st_mtime_ns, "inode": status.st_ino}


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


class ImageWatch:
    """Tells whether an image is still the one of its record, which ``digest`` has made."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.record = record

    def change(self) -> str:
        """What has happened to it; empty while it is as it was. Reads it again only where its times alone differ."""
        path = Path(self.record["path"])
        try:
            stamp = _stamp(path)
        except (FileNotFoundError, NotADirectoryError):
            return f"image {path} is gone"
        except OSError:
            return ""  # a file system's hiccup is no news
        try:
            return "" if self._is(stamp) else f"image {path} {self._difference(stamp)}"
        except OSError as error:
            return f"image {path} has changed and cannot be read ({error.strerror})"

    def _is(self, stamp: Mapping[str, Any]) -> bool:
        if {key: self.record[key] for key in stamp} == stamp:
            return True
        digest = self.record["sha256"]
        if digest is None or stamp["size"] != self.record["size"] or digest != _sha256(Path(stamp["path"])):
            return False
        self.record = {**self.record, **stamp}
        return True

    def _difference(self, stamp: Mapping[str, Any]) -> str:
        if stamp["inode"] != self.record["inode"]:
            return "was replaced by another one"
        if stamp["size"] != self.record["size"]:
            return f"has changed: it had {self.record['size']} bytes and has {stamp['size']} now"
        return "has changed"
