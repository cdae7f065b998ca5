"""What helps against failures of a model, by what their evidence says. All of it is pure."""

from __future__ import annotations

DRIVER_WORDS = ("libcuda.so", "NVIDIA driver", "CUDA driver")

_REMEDIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("': scratch ",),
        "let site.scratch name a directory that workers can write, by variables that are set there, or leave it out",
    ),
    (
        ("cannot start '",),
        "let the workers find it: the site's container_command or modules, or the model's scripts and first lines",
    ),
    (("timeout after",), "raise the stage's timeout, or make the model quicker to start"),
    (("No space left", "Disk quota exceeded"), "make room, or choose another directory by --output"),
    (
        ("timed out", "ConnectTimeout", "ReadTimeout", "Connection refused", "Max retries", "name resolution"),
        "the network cannot be reached: fetch what the model downloads before, into the image or the data directory",
    ),
    (DRIVER_WORDS, "run on a node with an NVIDIA driver, with gpu_vendor: nvidia (--nv)"),
    (
        ("Input/output error",),
        "the image or its disk is damaged, if not that of the data: copy, pull or build the image again",
    ),
    (("is not executable",), "chmod a+x it, in the def file's %post if it is in the image"),
    (("libcudart", "libcudnn", "libcublas"), "build the image from a CUDA image, as From: pytorch/pytorch:..."),
    (("GLIBC_", "GLIBCXX_"), "build what needs it on an older base, or the image on a newer one"),
    (("no config file",), "check the train stage's config_file, and that its file is in the data directory"),
    (
        ("unrecognized arguments", "no such option", "unknown option"),
        "let the script accept every hyperparameter of the space, or take it out of the space",
    ),
    (
        ("neither", "IMPROVE_RESULT"),
        "write the metric into val_scores.json, or print 'IMPROVE_RESULT METRIC: VALUE'; check the objective's name",
    ),
    (
        ("not JSON", "holds no dictionary", "not a number", "is nan", "is inf"),
        "write a finite number under the metric's name",
    ),
    (("command not found", "command was not found"), "install the program in the def file's %post, or check its name"),
    (("out of memory",), "choose a smaller model or batch, or a node with more memory"),
    (
        ("Read-only file system", "Permission denied"),
        "let the model write into its output directory alone: the image is read-only",
    ),
    (
        ("No such file", "no file", "not found", "does not exist", "not there"),
        "check the paths in the space, the stage's args and the parameter file; in a container a path must be bound",
    ),
    (("No module named", "ModuleNotFoundError"), "install the module in the def file's %post"),
)
"""Words of evidence, and what helps; the first that fits counts."""


def remedy(evidence: str) -> str:
    """What helps against a failure; empty if its evidence tells nothing that is known."""
    return next((remedy for words, remedy in _REMEDIES if any(word in evidence for word in words)), "")
