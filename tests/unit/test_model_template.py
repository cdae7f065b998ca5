"""The example model: its three scripts are run as a container would run them, its network is checked against theory."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

TEMPLATE = Path(__file__).resolve().parents[2] / "workflow" / "model_template"
TRAIN_FLAGS = ("--epochs", "3", "--batch_size", "64", "--learning_rate", "0.0001")
EPOCH_LINE = re.compile(r"epoch (\d+)/(\d+) train_loss (\d+\.\d{5}) val_loss (\d+\.\d{5})")


def load(name: str) -> ModuleType:
    """Import a module of the example model, which is no package."""
    spec = importlib.util.spec_from_file_location(f"model_template_{name}", TEMPLATE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mlp = load("mlp")
scores = load("scores")


def call(script: str | Path, *args: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "LC_ALL": "C", **env}
    command = [str(TEMPLATE / script), *map(str, args)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def succeed(script: str | Path, *args: object, cwd: Path | None = None) -> str:
    done = call(script, *args, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def fail(script: str | Path, *args: object, cwd: Path | None = None, **env: str) -> str:
    """Expect one line on stderr, exit status 1 and no traceback."""
    done = call(script, *args, cwd=cwd, **env)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def result(stdout: str) -> float:
    last = stdout.splitlines()[-1]
    assert last.startswith("IMPROVE_RESULT val_loss:\t")
    return float(last.split("\t")[1])


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("prepared")
    succeed("preprocess.sh", data_dir)
    return data_dir


@pytest.fixture
def data_dir(prepared: Path, tmp_path: Path) -> Path:
    """A data directory that holds the prepared data; its name has a space."""
    return Path(shutil.copytree(prepared, tmp_path / "data dir"))


# The scripts


def test_the_whole_chain_with_the_flags_of_the_specification(data_dir: Path, tmp_path: Path) -> None:
    ml_data, model, infer = tmp_path / "ml", tmp_path / "model", tmp_path / "infer"
    succeed("preprocess.sh", data_dir, "--ml_data_outdir", ml_data)
    dirs = ("--train_ml_data_dir", ml_data, "--val_ml_data_dir", ml_data, "--test_ml_data_dir", "/nowhere")
    succeed("train.sh", 0, data_dir, *dirs, "--model_outdir", model, *TRAIN_FLAGS)
    printed = succeed(
        "infer.sh", data_dir, "--test_ml_data_dir", ml_data, "--model_dir", model, "--infer_outdir", infer
    )

    assert {path.name for path in ml_data.iterdir()} == {"train_data.npz", "val_data.npz", "test_data.npz"}
    assert {path.name for path in model.iterdir()} == {"model.npz", "val_scores.json", "val_y_data_predicted.csv"}
    assert {path.name for path in infer.iterdir()} == {"test_scores.json", "test_y_data_predicted.csv"}
    test_scores = json.loads((infer / "test_scores.json").read_text())
    assert printed.splitlines() == [f"{name}\t{value!r}" for name, value in test_scores.items()]


def test_newer_names_of_the_directories(data_dir: Path, tmp_path: Path) -> None:
    succeed("preprocess.sh", data_dir, "--output_dir", tmp_path / "a")
    succeed("train.sh", 0, data_dir, "--input_dir", tmp_path / "a", "--output_dir", tmp_path / "b", *TRAIN_FLAGS)
    inputs = ("--input_data_dir", tmp_path / "a", "--input_model_dir", tmp_path / "b")
    succeed("infer.sh", data_dir, *inputs, "--output_dir", tmp_path / "c")
    assert (tmp_path / "c" / "test_scores.json").is_file()


def test_scores_agree_with_csv_and_result_line(data_dir: Path) -> None:
    stdout = succeed("train.sh", 0, data_dir, *TRAIN_FLAGS)
    y_true, y_pred = np.loadtxt(data_dir / "model" / "val_y_data_predicted.csv", delimiter=",", skiprows=1).T
    found = json.loads((data_dir / "model" / "val_scores.json").read_text())
    assert found["mse"] == float(np.mean((y_true - y_pred) ** 2)) == result(stdout)
    assert list(found) == ["mse", "rmse", "pcc", "scc", "r2"]
    epochs = [EPOCH_LINE.fullmatch(line) for line in stdout.splitlines()[:-1]]
    assert [match and match.group(1, 2) for match in epochs] == [("1", "3"), ("2", "3"), ("3", "3")]
    assert epochs[-1] is not None
    assert float(epochs[-1][4]) == pytest.approx(found["mse"], abs=1e-5)


def test_two_runs_are_byte_identical_and_the_seed_matters(data_dir: Path, tmp_path: Path) -> None:
    runs = [("a", 1), ("b", 1), ("c", 2)]
    for name, seed in runs:
        succeed("train.sh", 0, data_dir, "--model_outdir", tmp_path / name, "--seed", seed, *TRAIN_FLAGS)
    for file in ("val_scores.json", "val_y_data_predicted.csv", "model.npz"):
        a, b, c = ((tmp_path / name / file).read_bytes() for name, _ in runs)
        assert a == b != c


def test_config_file_then_command_line(data_dir: Path) -> None:
    config = ["[Train]", "epochs = 2", "warmup_type = none", "output_dir = from config", "num_layers = 1"]
    (data_dir / "my config.txt").write_text("\n".join(config))
    assert "epoch 2/2 " in succeed("train.sh", 0, data_dir, "my config.txt")
    assert "epoch 4/4 " in succeed("train.sh", 0, data_dir, "my config.txt", "--epochs", 4)
    with np.load(data_dir / "from config" / "model.npz") as model:
        assert model["sizes"].tolist() == [10, 192, 1]


def test_command_line_overwrites_the_txt(data_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(TEMPLATE, tmp_path / "template"))
    txt = (copy / "model_params.txt").read_text()
    (copy / "model_params.txt").write_text(txt.replace("epochs = 150", "epochs = 5"))
    assert "epoch 5/5 " in succeed(copy / "train.sh", 0, data_dir)
    assert "epoch 2/2 " in succeed(copy / "train.sh", 0, data_dir, "--epochs", 2)


def test_found_through_path_and_a_link_from_any_directory(data_dir: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(TEMPLATE, tmp_path / "my template"))
    bin_dir, elsewhere = tmp_path / "bin", tmp_path / "elsewhere"
    bin_dir.mkdir()
    elsewhere.mkdir()
    (bin_dir / "train.sh").symlink_to(copy / "train.sh")
    succeed(bin_dir / "train.sh", 0, data_dir, "--model_outdir", "out dir", *TRAIN_FLAGS, cwd=elsewhere)
    assert (elsewhere / "out dir" / "val_scores.json").is_file()
    path = f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", "-c", 'train.sh 0 "$0" --epochs 1', str(data_dir)]
    subprocess.run(command, env={**os.environ, "PATH": path}, cwd=elsewhere, check=True, capture_output=True)


def test_gpu_and_data_directory_reach_python(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(TEMPLATE, tmp_path / "template"))
    names = ["CUDA_VISIBLE_DEVICES", "IMPROVE_DATA_DIR", "OMP_NUM_THREADS", "PYTHONUNBUFFERED"]
    (copy / "train.py").write_text(f"import os, sys; print([os.environ[n] for n in {names}], sys.argv[1:])")
    shown = succeed(copy / "train.sh", 3, "a b", "--x", "c  d", "*")
    assert shown == "['3', 'a b', '1', '1'] ['--x', 'c  d', '*']\n"


def test_diverged_training_is_nan(data_dir: Path) -> None:
    flags = ("--optimizer", "SGD", "--learning_rate", "1e30", "--epochs", "2")
    assert math.isnan(result(succeed("train.sh", 0, data_dir, *flags)))
    found = json.loads((data_dir / "model" / "val_scores.json").read_text())
    assert all(math.isnan(value) for value in found.values())


# Wrong input


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epoch", "3"), "unrecognized arguments: --epoch 3"),
        (("--epochs", "0"), "--epochs: invalid positive_int value: '0'"),
        (("--learning_rate", "nan"), "--learning_rate: invalid positive_float value: 'nan'"),
        (("--warmup_type", "cosine"), "--warmup_type: invalid none|linear|quadratic|exponential value: 'cosine'"),
        (("--model_outdir", ""), "--model_outdir: invalid directory value: ''"),
    ],
)
def test_bad_command_line(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    done = call("train.sh", 0, tmp_path, *flags)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("script", ["preprocess.sh", "train.sh", "infer.sh"])
def test_usage_and_help(tmp_path: Path, script: str) -> None:
    bare = call(script)
    assert bare.returncode == 2
    assert bare.stderr.startswith(f"usage: {script} ")
    before = (0, tmp_path) if script == "train.sh" else (tmp_path,)
    assert "--config_file" in succeed(script, *before, "--help")


def test_missing_inputs_name_the_path_and_what_to_run(data_dir: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert f"no data directory {gone}: create it" in fail("train.sh", 0, gone)
    assert f"no file {gone}/train_data.npz: run preprocess.sh first" in fail(
        "train.sh", 0, data_dir, "--train_ml_data_dir", gone
    )
    assert f"no file {gone}/val_data.npz: run preprocess.sh first" in fail(
        "train.sh", 0, data_dir, "--val_ml_data_dir", gone
    )
    assert f"no file {data_dir}/model/model.npz: run train.sh first" in fail("infer.sh", data_dir)
    assert f"no file {gone}/test_data.npz: run preprocess.sh" in fail("infer.sh", data_dir, "--test_ml_data_dir", gone)


def test_damaged_data_file(data_dir: Path) -> None:
    path = data_dir / "ml_data" / "train_data.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert f"{path} is not a file of preprocess.sh" in fail("train.sh", 0, data_dir)


def test_out_dir_that_cannot_be_made(data_dir: Path) -> None:
    (data_dir / "model").write_text("a file")
    assert str(data_dir / "model") in fail("train.sh", 0, data_dir, *TRAIN_FLAGS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[Train]\nepoch = 3\n", "[Train] has an unknown parameter epoch; known are train_ml_data_dir, input_dir,"),
        ("[Train]\nepochs = many\n", "[Train] epochs: invalid positive_int value: 'many'"),
        (
            "[train]\nepochs = 3\n",
            "needs [Train], and knows no section but [Preprocess] [Train] [Infer]; it has [train]",
        ),
        ("epochs = 3\n", "cannot read"),
    ],
)
def test_bad_config_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.txt").write_text(text)
    error = fail("train.sh", 0, tmp_path, "config.txt")
    assert message in error
    assert str(tmp_path / "config.txt") in error
    assert f"no config file {tmp_path}/other.txt" in fail("train.sh", 0, tmp_path, "other.txt")


def test_without_scikit_learn(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('No module named sklearn')")
    error = fail("preprocess.sh", tmp_path, PYTHONPATH=str(tmp_path))
    assert "pip install scikit-learn" in error
    assert 'pip install ".[demo]"' in error


# The split


def write_rows(path: Path, rows: range) -> Path:
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


def n_rows(data_dir: Path) -> dict[str, int]:
    found = {}
    for part in ("train", "val", "test"):
        with np.load(data_dir / "ml_data" / f"{part}_data.npz") as data:
            found[part] = len(data["y"])
    return found


def test_default_split_and_standardisation(prepared: Path) -> None:
    assert n_rows(prepared) == {"train": 309, "val": 67, "test": 66}
    with np.load(prepared / "ml_data" / "train_data.npz") as data:
        values = np.column_stack([data["x"], data["y"]])
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=1e-6)
    np.testing.assert_allclose(values.std(axis=0), 1.0, atol=1e-6)


def test_split_files_by_name_and_by_absolute_path(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    write_rows(data_dir / "diabetes_split_0_train.txt", range(300))
    val = write_rows(tmp_path / "val.txt", range(300, 342))
    succeed("preprocess.sh", data_dir, "--train_split_file", "diabetes_split_0_train.txt", "--val_split_file", val)
    assert n_rows(data_dir) == {"train": 300, "val": 42, "test": 100}
    _, y = load_diabetes(return_X_y=True)
    with np.load(data_dir / "ml_data" / "val_data.npz") as data:
        expected = (y[300:342] - y[:300].mean()) / y[:300].std()
        np.testing.assert_allclose(data["y"], expected, rtol=1e-6)


def test_bad_split_files(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.txt", range(5))
    write_rows(tmp_path / "b.txt", range(4, 9))
    write_rows(tmp_path / "beyond.txt", range(441, 443))
    write_rows(tmp_path / "all.txt", range(442))
    assert f"no split file {tmp_path}/gone.txt" in fail("preprocess.sh", tmp_path, "--val_split_file", "gone.txt")
    overlap = fail("preprocess.sh", tmp_path, "--train_split_file", "a.txt", "--test_split_file", "b.txt")
    assert "a.txt and b.txt must not share rows; both have row 4" in overlap
    beyond = fail("preprocess.sh", tmp_path, "--train_split_file", "beyond.txt")
    assert f"{tmp_path}/beyond.txt, line 2: '442' is not a row number from 0 to 441" in beyond
    assert "leave no rows for val" in fail("preprocess.sh", tmp_path, "--train_split_file", "all.txt")


def test_empty_test_part_is_explained_by_infer(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.txt", range(400))
    write_rows(tmp_path / "b.txt", range(400, 442))
    succeed("preprocess.sh", tmp_path, "--train_split_file", "a.txt", "--val_split_file", "b.txt")
    assert f"{tmp_path}/ml_data/test_data.npz has no rows" in fail("infer.sh", tmp_path)


# The network


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_gradient_agrees_with_finite_differences(num_layers: int) -> None:
    rng = np.random.default_rng(num_layers)
    sizes = [3, *[4] * num_layers, 1]
    params = rng.normal(size=mlp.count_params(sizes))
    model = mlp.MLP(sizes, params)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=7)
    gradient = model.loss_and_gradient(x, y)[1].copy()
    numeric = np.empty_like(params)
    for i in range(len(params)):
        numeric[i] = central_difference(model, x, y, i)
    assert np.abs(gradient).min(initial=1.0, where=gradient != 0) > 1e-6
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-7)


def central_difference(model: Any, x: Any, y: Any, i: int, h: float = 1e-6) -> float:
    losses = []
    for shift in (h, -h):
        model.params[i] += shift
        losses.append(model.loss_and_gradient(x, y)[0])
        model.params[i] -= shift
    return float(losses[0] - losses[1]) / (2 * h)


def test_first_weights() -> None:
    model = mlp.MLP.initialise([200, 300, 300, 1], np.random.default_rng(0))
    second = model.params[201 * 300 : 501 * 300]
    assert second.std() == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert not model.predict(np.ones((4, 200), np.float32)).any()


@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop"])
def test_each_optimizer_learns_a_toy_problem(name: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 2))
    y = np.abs(x[:, 0]) - x[:, 1]
    model = mlp.MLP.initialise([2, 16, 1], rng, np.float64)
    optimizer = mlp.OPTIMIZERS[name](model.params)
    losses = []
    for _ in range(300):
        loss, gradient = model.loss_and_gradient(x, y)
        optimizer.step(model.params, gradient, 0.01)
        losses.append(loss)
    assert losses[-1] < 0.1 * losses[0]


def test_first_two_steps_of_the_optimizers() -> None:
    """A constant gradient g: worked out by hand from the papers' equations."""
    expected = {
        "Adam": [-0.1, -0.2],
        "SGD": [-0.1 * 4, -0.1 * 4 * (1 + 1.9)],
        "RMSprop": [-0.1 / math.sqrt(0.1), -0.1 / math.sqrt(0.1) - 0.1 / math.sqrt(0.19)],
    }
    for name, steps in expected.items():
        params, gradient = np.zeros(1), np.full(1, 4.0)
        optimizer = mlp.OPTIMIZERS[name](params)
        for step in steps:
            optimizer.step(params, gradient, 0.1)
            assert params[0] == pytest.approx(step, rel=1e-6), name


@pytest.mark.parametrize(
    ("kind", "halfway"), [("none", 1.0), ("linear", 0.5), ("quadratic", 0.25), ("exponential", 0.1)]
)
def test_warmup_shapes(kind: str, halfway: float) -> None:
    factors = [mlp.warmup_factor(kind, step, 1000) for step in range(1000)]
    assert factors[49] == pytest.approx(halfway)
    assert factors == sorted(factors)
    assert min(factors) > 0.0
    assert set(factors[99:]) == {1.0}
    assert mlp.warmup_factor(kind, 0, 3) == 1.0


def test_scores_of_known_vectors() -> None:
    y_true, y_pred = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.0, 3.0, 9.0])
    found = scores.score(y_true, y_pred)
    assert found["mse"] == 6.5
    assert found["rmse"] == pytest.approx(math.sqrt(6.5))
    assert found["r2"] == pytest.approx(1 - 6.5 / 1.25)
    assert found["pcc"] == pytest.approx(np.corrcoef(y_true, y_pred)[0, 1])
    assert found["scc"] == pytest.approx(np.corrcoef(y_true, [1.5, 1.5, 3, 4])[0, 1])


def test_scores_that_are_undefined() -> None:
    constant = scores.score(np.array([1.0, 2.0]), np.array([1.5, 1.5]))
    assert constant["mse"] == 0.25
    assert math.isnan(constant["pcc"])
    assert math.isnan(scores.score(np.array([1.0, 2.0]), np.array([1.0, np.inf]))["mse"])


# The image


def test_definition_file_copies_every_file_of_the_model() -> None:
    section = (TEMPLATE / "model.def").read_text().split("%files")[1].split("%post")[0]
    copied = {line.split()[0] for line in section.splitlines() if "/opt/model/" in line}
    files = {path.name for path in TEMPLATE.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert copied == files - {"model.def"}
    assert all(os.access(TEMPLATE / name, os.X_OK) for name in files if name.endswith(".sh"))
