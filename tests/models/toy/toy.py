"""A model without a model: notes its arguments, sleeps, and scores a smooth function of its hyperparameters.

``toy.py STAGE ARGUMENTS``, as the interface scripts are called. The option ``--sleep`` is in seconds.
"""

import json
import os
import sys
import time


def main(stage: str, argv: list[str]) -> None:
    words = argv[1:] if stage == "train" else argv
    options = {}
    for flag, value in zip(words[1:], words[2:] + [""]):
        if flag.startswith("--"):
            options[flag[2:]] = value
    directory = next(options[n] for n in ("model_outdir", "infer_outdir", "ml_data_outdir", "output_dir") if n in options)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "argv.json"), "w") as file:
        json.dump(argv, file)
    if stage == "preprocess":
        return
    time.sleep(float(options.get("sleep", 0)))
    if stage == "infer":
        write(directory, "test_scores.json", {"mse": 0.5})
        return
    x, y = float(options.get("x", 0)), float(options.get("y", 0))
    write(directory, "val_scores.json", {"mse": (x - 0.3) ** 2 + (y - 0.6) ** 2})


def write(directory: str, name: str, scores: dict[str, float]) -> None:
    with open(os.path.join(directory, name), "w") as file:
        json.dump(scores, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
