"""Whether an image is still the one with which a controller began."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workflow.image import Image, ImageWatch, digest


def touched(image: Path) -> None:
    os.utime(image, ns=(1, 1))


def copied(image: Path) -> None:
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content)


def truncated(image: Path) -> None:
    os.truncate(image, 3)


def overwritten(image: Path) -> None:
    image.write_bytes(b"whatever")
    os.utime(image, ns=(1, 1))


def replaced(image: Path) -> None:
    image.with_suffix(".new").write_bytes(b"another one")
    image.with_suffix(".new").rename(image)


def removed(image: Path) -> None:
    image.unlink()


@pytest.mark.parametrize(
    ("deed", "change"),
    [
        (touched, ""),
        (copied, ""),
        (truncated, "has changed: it had 8 bytes and has 3 now"),
        (overwritten, "has changed"),
        (replaced, "was replaced by another one"),
        (removed, "is gone"),
    ],
)
def test_an_image_that_changes(tmp_path: Path, deed: Callable[[Path], None], change: str) -> None:
    image = tmp_path / "model.sif"
    image.write_bytes(b"original")
    watch = ImageWatch(digest(Image(image, "sif", "", 8), {}, print))
    assert watch.change() == ""
    deed(image)
    assert watch.change() == (f"image {image} {change}" if change else "")


def test_a_touched_image_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "model.sif"
    image.write_bytes(b"original")
    watch = ImageWatch(digest(Image(image, "sif", "", 8), {}, print))
    touched(image)
    assert watch.change() == ""
    monkeypatch.setattr("workflow.image._sha256", lambda path: "another")
    assert watch.change() == ""


def test_a_changed_image_that_cannot_be_read_is_no_hiccup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "model.sif"
    image.write_bytes(b"original")
    watch = ImageWatch(digest(Image(image, "sif", "", 8), {}, print))
    touched(image)

    def damaged(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("workflow.image._sha256", damaged)
    assert watch.change() == f"image {image} has changed and cannot be read (Input/output error)"


def test_a_sandbox_is_known_by_its_directory(tmp_path: Path) -> None:
    sandbox = tmp_path / "model"
    sandbox.mkdir()
    watch = ImageWatch(digest(Image(sandbox, "sandbox", "", 0), {}, print))
    assert watch.change() == ""
    sandbox.rename(tmp_path / "old")
    sandbox.mkdir()
    assert "was replaced" in watch.change()
