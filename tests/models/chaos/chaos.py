"""A model that does what models on clusters do: now and then it works.

``chaos.py GPU DATA_DIR --x X --model_outdir DIR``. What an attempt does is drawn from its directory's name, so that a
trial's next attempt may do something else.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

SLEEP = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main(argv: list[str]) -> None:
    options = dict(zip(argv[2::2], argv[3::2], strict=True))
    directory, x = Path(options["--model_outdir"]), float(options["--x"])
    rng = random.Random("/".join(directory.parts[-2:]))
    deed = rng.choices([works, exits, hangs, forks, prints_nan, prints_nothing, scores_garbage, fills], DEEDS)[0]
    time.sleep(rng.uniform(0.05, 0.6))
    deed(directory, x)


def works(directory: Path, x: float) -> None:
    (directory / "val_scores.json").write_text(json.dumps({"mse": (x - 0.3) ** 2}))
    print(f"IMPROVE_RESULT val_loss:\t{(x - 0.3) ** 2!r}")


def exits(directory: Path, x: float) -> None:
    sys.exit(f"x was {x}")


def hangs(directory: Path, x: float) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def forks(directory: Path, x: float) -> None:
    """Leaves children behind, one of them in a session of its own, and works."""
    for new_session in (True, False):
        subprocess.Popen([sys.executable, "-S", "-c", SLEEP], start_new_session=new_session)
    works(directory, x)


def prints_nan(directory: Path, x: float) -> None:
    print("IMPROVE_RESULT val_loss: nan")


def prints_nothing(directory: Path, x: float) -> None:
    pass


def scores_garbage(directory: Path, x: float) -> None:
    (directory / "val_scores.json").write_bytes(os.urandom(100))


def fills(directory: Path, x: float) -> None:
    """Writes much, clears its directory, and works."""
    (directory / "checkpoint").write_bytes(bytes(20_000_000))
    for path in directory.iterdir():
        path.unlink()
    works(directory, x)


DEEDS = (8, 1, 0.5, 1, 1, 1, 1, 1)

if __name__ == "__main__":
    main(sys.argv[1:])
