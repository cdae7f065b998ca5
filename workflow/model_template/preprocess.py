"""Prepare the diabetes data set (Efron et al. 2004, Least Angle Regression; shipped with scikit-learn) for training.

442 patients, 10 features, and as the target a measure of the disease's progression one year later.
"""

from __future__ import annotations

from argparse import Namespace
from itertools import combinations, pairwise

import numpy as np
from files import Array, Data, save_data
from params import InputError, read_params, run

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
Split = dict[str, Array]


def main() -> None:
    params = read_params("Preprocess")
    x, y = load_dataset()
    split = complete(read_splits(params, len(y)), len(y), params.seed)
    x, y = standardise(x, split["train"]), standardise(y, split["train"])
    for part, rows in split.items():
        save_data(params.ml_data_outdir, part, Data(x[rows], y[rows]))
        print(f"{part}: {len(rows)} rows, {x.shape[1]} features")


def load_dataset() -> tuple[Array, Array]:
    """Return the features, of shape (442, 10), and the target, of shape (442,)."""
    try:
        from sklearn.datasets import load_diabetes
    except ImportError as error:
        how = 'pip install scikit-learn (or, in the project\'s folder, pip install ".[demo]")'
        raise InputError(f"scikit-learn is missing ({error}): {how}") from error
    x, y = load_diabetes(return_X_y=True)
    return x, y


def read_splits(params: Namespace, n_rows: int) -> Split:
    """Return the row numbers of the parts for which a split file is given."""
    files = {part: getattr(params, f"{part}_split_file") for part in SHARES}
    split = {part: read_split(params, file, n_rows) for part, file in files.items() if file}
    for a, b in combinations(split, 2):
        if shared := np.intersect1d(split[a], split[b]).tolist():
            raise InputError(f"{files[a]} and {files[b]} must not share rows; both have row {shared[0]}")
    return split


def read_split(params: Namespace, file: str, n_rows: int) -> Array:
    path = params.data_dir / file
    if not path.is_file():
        raise InputError(f"no split file {path}: create it, or leave the option out for a split by seed")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [row_number(line, n_rows, f"{path}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InputError(f"{path} has no row numbers")
    return np.array(rows)


def row_number(text: str, n_rows: int, place: str) -> int:
    try:
        row = int(text)
    except ValueError:
        row = -1
    if not 0 <= row < n_rows:
        raise InputError(f"{place}: {text.strip()!r} is not a row number from 0 to {n_rows - 1}")
    return row


def complete(split: Split, n_rows: int, seed: int) -> Split:
    """Draw the parts that the split lacks from the rows that it leaves, in proportion to SHARES.

    The test part may stay empty, if the split files for training and validation leave nothing.
    """
    taken = np.concatenate([*split.values(), np.array([], dtype=int)])
    rest = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(n_rows), taken))
    missing = {part: share for part, share in SHARES.items() if part not in split}
    if not missing:
        return split
    ends = np.cumsum([0.0, *missing.values()])
    ends = np.rint(ends / ends[-1] * len(rest)).astype(int)
    drawn = {part: rest[start:end] for part, (start, end) in zip(missing, pairwise(ends), strict=True)}
    for part in ("train", "val"):
        if part in drawn and not len(drawn[part]):
            raise InputError(f"the split files leave no rows for {part}: give a {part}_split_file too")
    return {**split, **drawn}


def standardise(values: Array, train_rows: Array) -> Array:
    """Shift and scale by the training rows' mean and standard deviation; a column constant in them is only shifted."""
    mean, std = values[train_rows].mean(axis=0), values[train_rows].std(axis=0)
    return np.asarray((values - mean) / np.where(std > 0.0, std, 1.0), dtype=np.float32)


if __name__ == "__main__":
    run(main)
