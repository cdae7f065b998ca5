"""Runs one stage on a worker, beside the container: ``python supervise.py SPEC``, standard library only.

It is started by file path, so that workers need no installation of this package. SPEC is a JSON object (see
``worker.contract.Spec``). The stage gets a session and process group of its own; whatever it starts is stopped with it.
``command.sh``, ``model.log``, a heartbeat and, last and atomically, ``result.json`` are written into the attempt's
directory. The exit code is 0 once ``result.json`` is there, whatever the stage did: what a trial is worth is decided by
the controller.

A supervisor whose controller is gone (the lock file names another one, is missing, or its beat stands still) stops its
stage: a resumed campaign never meets trials of the one before.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # The interpreter looks nowhere else; the end of the path, since nothing there may hide a module of the standard
    # library. All else is imported, which is compiled once and not for each trial.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from workflow.worker.supervisor import main

    sys.exit(main(sys.argv[1:]))
