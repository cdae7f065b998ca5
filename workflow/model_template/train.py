"""Train the network, then write it, its predictions for the validation data and their scores.

The target is standardised, so that predicting the mean has a loss of about 1.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import numpy as np
from files import Data, load_data, save_model, save_predictions
from mlp import MLP, OPTIMIZERS, Optimizer, warmup_factor
from params import InputError, read_params, run
from scores import score


def main() -> None:
    params = read_params("Train")
    train, val = load_data(params.train_ml_data_dir, "train"), load_data(params.val_ml_data_dir, "val")
    if train.x.shape[1] != val.x.shape[1]:
        raise InputError(
            f"{params.train_ml_data_dir} has {train.x.shape[1]} features and {params.val_ml_data_dir} has"
            f" {val.x.shape[1]}: run preprocess.sh for both"
        )
    # A diverging training overflows; it is reported as nan, not as a page of warnings.
    with np.errstate(over="ignore", invalid="ignore"):
        model = fit(params, train, val)
        y_pred = model.predict(val.x)
    save_model(params.model_outdir, model)
    scores = save_predictions(params.model_outdir, "val", val.y, y_pred)
    print(f"IMPROVE_RESULT val_loss:\t{scores['mse']!r}")


def fit(params: Namespace, train: Data, val: Data) -> MLP:
    """Train a new network, printing a line for each epoch; train_loss is the mean over the epoch's batches."""
    rng = np.random.default_rng(params.seed)
    model = MLP.initialise([train.x.shape[1], *[params.hidden_size] * params.num_layers, 1], rng)
    optimizer = OPTIMIZERS[params.optimizer](model.params)
    rates = learning_rates(params, len(train.y))
    for epoch in range(1, params.epochs + 1):
        train_loss = run_epoch(model, optimizer, rates, batches(train, params.batch_size, rng))
        val_loss = score(val.y, model.predict(val.x))["mse"]
        print(f"epoch {epoch}/{params.epochs} train_loss {train_loss:.5f} val_loss {val_loss:.5f}")
    return model


def learning_rates(params: Namespace, n_rows: int) -> Iterator[float]:
    """Yield the learning rate of every step of the training."""
    steps = params.epochs * -(-n_rows // params.batch_size)
    return (params.learning_rate * warmup_factor(params.warmup_type, step, steps) for step in range(steps))


def batches(data: Data, batch_size: int, rng: np.random.Generator) -> Iterator[Data]:
    """Yield all rows once, in a random order; the last batch may be smaller."""
    order = rng.permutation(len(data.y))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield Data(data.x[rows], data.y[rows])


def run_epoch(model: MLP, optimizer: Optimizer, rates: Iterator[float], data: Iterator[Data]) -> float:
    """Take one step for each batch; return the mean loss of the rows, each before its step."""
    total, rows = 0.0, 0
    for x, y in data:
        loss, gradient = model.loss_and_gradient(x, y)
        optimizer.step(model.params, gradient, next(rates))
        total, rows = total + loss * len(y), rows + len(y)
    return total / rows


if __name__ == "__main__":
    run(main)
