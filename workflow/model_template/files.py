"""The files that the scripts exchange; each is written under a temporary name and renamed when it is complete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from mlp import MLP, count_params
from numpy.typing import NDArray
from params import InputError
from scores import score

Array = NDArray[Any]


class Data(NamedTuple):
    """Standardised features x of shape (rows, features) and target y of shape (rows,), both float32."""

    x: Array
    y: Array


def save_data(outdir: Path, part: str, data: Data) -> None:
    """Write one part (train, val or test) of the data set."""
    _save_npz(_data_file(outdir, part), x=data.x, y=data.y)


def load_data(folder: Path, part: str) -> Data:
    """Read one part (train, val or test) of the data set, which must not be empty."""
    path = _data_file(folder, part)
    x, y = _load_npz(path, ("x", "y"), "preprocess.sh")
    if not len(y):
        raise InputError(f"{path} has no rows: run preprocess.sh with a split that leaves some for {part}")
    return Data(x, y)


def save_model(outdir: Path, model: MLP) -> None:
    """Write what inference needs."""
    _save_npz(_model_file(outdir), sizes=np.array(model.sizes), params=model.params)


def load_model(folder: Path) -> MLP:
    """Read a model that save_model wrote."""
    path = _model_file(folder)
    sizes, params = _load_npz(path, ("sizes", "params"), "train.sh")
    if params.shape != (count_params(sizes.tolist()),):
        raise InputError(f"{path} is not a file of train.sh (wrong number of weights): run train.sh first")
    return MLP(sizes.tolist(), params)


def save_predictions(outdir: Path, part: str, y_true: Array, y_pred: Array) -> dict[str, float]:
    """Write the predictions of a part as CSV and their scores as JSON (where nan is NaN); return the scores."""
    outdir.mkdir(parents=True, exist_ok=True)
    # repr of a double is exact, so that the scores can be computed again from the CSV file.
    rows = [f"{t!r},{p!r}\n" for t, p in zip(y_true.tolist(), y_pred.tolist(), strict=True)]
    with _replacing(outdir / f"{part}_y_data_predicted.csv") as file:
        file.write("".join(["y_true,y_pred\n", *rows]).encode())
    scores = score(y_true, y_pred)
    with _replacing(outdir / f"{part}_scores.json") as file:
        file.write((json.dumps(scores, indent=2) + "\n").encode())
    return scores


def _data_file(folder: Path, part: str) -> Path:
    return folder / f"{part}_data.npz"


def _model_file(folder: Path) -> Path:
    return folder / "model.npz"


def _save_npz(path: Path, **arrays: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def _load_npz(path: Path, names: tuple[str, ...], writer: str) -> list[Array]:
    if not path.is_file():
        raise InputError(f"no file {path}: run {writer} first")
    try:
        with np.load(path) as arrays:
            return [arrays[name] for name in names]
    except (BadZipFile, EOFError, KeyError, ValueError) as error:
        raise InputError(f"{path} is not a file of {writer} ({error}): run {writer} first") from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of path once the block has ended without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
