"""``python -m workflow.init``: start a model of one's own from the example model."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from workflow.config.strict import HOME, shipped
from workflow.errors import EXIT_DONE, InputError
from workflow.terminal import run_command

TEMPLATE = HOME / "model_template"

_EXPERIMENT = """\
# The hyperparameter search of this model.
#     check it   python -m workflow.check --site local --experiment {here}/experiment.yaml
#     run it     python -m workflow.run --site local --experiment {here}/experiment.yaml
name: {name}
model:
  scripts: .              # the interface scripts, run on this machine
  # image: model.sif      # instead of scripts: the image built from model.def, beside this file
  contract: improve       # improve: the data directory is /IMPROVE_DATA_DIR in the container | candle: /candle_data_dir
  # data_dir: $IMPROVE_DATA_DIR     # left out: a directory in the run
stages:
  # Runs once. Its output goes to train and infer.
  preprocess: {{args: {{ml_data_outdir: "{{data_dir}}/ml_data"}}, timeout: 30m}}
  # Runs for every trial, with the hyperparameters of the space.
  train: {{timeout: 2h}}
  # Runs once, with the winner's model. gpu_arg: true if infer.sh takes a GPU number first.
  infer: {{timeout: 30m}}
space: space.json         # what is searched; see the README's table of types
objective: {{metric: val_loss, mode: min}}   # a key of val_scores.json, or the label of IMPROVE_RESULT lines
search: {{strategy: async, evaluations: 48, seed: 1}}
# finalists: {{seed_argument: seed}}   # if train.sh takes a seed: the best 3 are trained again, with 3 other ones each
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.init",
        description="Write the example model into a new directory, to be filled in: interface scripts, parameter file, "
        "definition file, hyperparameter space and experiment.",
        epilog="exit codes: 0 done; 2 bad input",
        allow_abbrev=False,
    )
    parser.add_argument("directory", type=Path, metavar="DIR", help="directory to make; may exist if it is empty")
    args = parser.parse_args(argv)
    return run_command(lambda: _write_and_tell(args.directory))


def _write_and_tell(directory: Path) -> int:
    write_model(directory)
    print(_next_steps(directory))
    return EXIT_DONE


def write_model(directory: Path) -> None:
    """Write the files. Raises InputError if the directory holds anything, or cannot be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise InputError(f"{directory}: is not empty\n    -> name a new directory; nothing was written")
        for path in sorted(TEMPLATE.iterdir()):
            if path.is_file():
                shutil.copy(path, directory / path.name)
        shutil.copy(shipped("configs") / "spaces" / "improve_sample.json", directory / "space.json")
        text = _EXPERIMENT.format(name=_name(directory), here=_shell(directory))
        (directory / "experiment.yaml").write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror})\n    -> name another directory") from error


def _name(directory: Path) -> str:
    """The directory's name, with what an experiment's name may not hold replaced."""
    return re.sub(r"[^A-Za-z0-9_.\-]", "-", directory.absolute().name).strip(".-") or "model"


def _next_steps(directory: Path) -> str:
    return f"""\
wrote the example model to {directory}; now
  1. put your model behind preprocess.sh, train.sh and infer.sh: its parameters into model_params.txt, what it needs
     into model.def
  2. describe what is searched in space.json, and the search in experiment.yaml
  3. check it: python -m workflow.check --site local --experiment {_shell(directory)}/experiment.yaml
  4. build the image, in {_shell(directory)}: apptainer build --fakeroot model.sif model.def
  5. name it in experiment.yaml (image: model.sif instead of scripts: .), and check again"""


def _shell(directory: Path) -> str:
    return shlex.quote(str(directory))


if __name__ == "__main__":
    sys.exit(main())
