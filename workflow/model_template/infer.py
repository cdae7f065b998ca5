"""Predict the test data with a trained network; write the predictions and their scores."""

from __future__ import annotations

import numpy as np
from files import load_data, load_model, save_predictions
from params import InputError, read_params, run


def main() -> None:
    params = read_params("Infer")
    data, model = load_data(params.test_ml_data_dir, "test"), load_model(params.model_dir)
    if data.x.shape[1] != model.sizes[0]:
        raise InputError(
            f"{params.test_ml_data_dir} has {data.x.shape[1]} features, but {params.model_dir} was trained with"
            f" {model.sizes[0]}: run preprocess.sh and train.sh again"
        )
    # A diverged model predicts inf or nan; the scores then say nan.
    with np.errstate(over="ignore", invalid="ignore"):
        y_pred = model.predict(data.x)
    for name, value in save_predictions(params.infer_outdir, "test", data.y, y_pred).items():
        print(f"{name}\t{value!r}")


if __name__ == "__main__":
    run(main)
