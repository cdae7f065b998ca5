"""A model without a model: notes its arguments, sleeps, and scores a smooth function of its hyperparameters.

``toy.py STAGE ARGUMENTS``, as the interface scripts are called. The option ``--sleep`` is in seconds; with
``--together`` a trial first waits until so many of its run's have begun, with ``--until`` for a file.
"""

import json
import sys
import time
from pathlib import Path

OUTPUTS = ("model_outdir", "infer_outdir", "ml_data_outdir", "output_dir")


def main(stage: str, argv: list[str]) -> None:
    words = argv[1:] if stage == "train" else argv
    options = {a[2:]: b for a, b in zip(words[1:], [*words[2:], ""], strict=True) if a.startswith("--")}
    directory = Path(next(options[name] for name in OUTPUTS if name in options))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "argv.json").write_text(json.dumps(argv))
    if stage == "preprocess":
        return
    if stage == "train":
        meet(directory.parents[1], int(options.get("together", 1)))
    wait_for(options.get("until", ""))
    time.sleep(float(options.get("sleep", 0)))
    if stage == "infer":
        (directory / "test_scores.json").write_text('{"mse": 0.5}')
        return
    x, y = float(options.get("x", 0)), float(options.get("y", 0))
    (directory / "val_scores.json").write_text(json.dumps({"mse": (x - 0.3) ** 2 + (y - 0.6) ** 2, "size": x}))


def wait_for(file: str) -> None:
    deadline = time.monotonic() + 100
    while file and not Path(file).exists() and time.monotonic() < deadline:
        time.sleep(0.1)


def meet(trials: Path, together: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(trials.glob("*/*/argv.json"))) < together and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
