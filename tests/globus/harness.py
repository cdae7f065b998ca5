"""``python -m workflow.run`` on the stand-in for Globus Compute: ``harness.py OPTIONS ARGUMENTS...``.

OPTIONS is a JSON object: what ``service.Service`` takes; ``check``: run ``workflow.check``; ``margin`` in seconds; and
``window``: the seconds of which the SDK lets four small submissions through at once. By default that is 1 here and not
the SDK's 16, since there is no service to spare.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from tests.globus.service import Service, SpoolExecutor, client
from workflow import check, run
from workflow.globus import backend, service


def main() -> None:
    options = json.loads(sys.argv.pop(1))
    backend._MARGIN = options.pop("margin", backend._MARGIN)
    program = (lambda: sys.exit(check.main())) if options.pop("check", False) else run.program
    window = options.pop("window", 1)
    stand_in = Service(**{**options, "spool": Path(options["spool"])})
    service.make_client = lambda: client(stand_in)
    service.Executor = partial(SpoolExecutor, api_burst_window_s=window)
    program()


if __name__ == "__main__":
    main()
