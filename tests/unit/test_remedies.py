"""What a failure of the check's stages is told to be mended by."""

from __future__ import annotations

import pytest

from workflow.rehearsal import _remedy


@pytest.mark.parametrize(
    ("evidence", "remedy"),
    [
        ("timeout after 1800 s; last line: epoch 3", "half an hour at most"),
        ("timeout after 5 s; last line: epoch 3", "raise the stage's timeout"),
        ("exit code 1; last line: requests.exceptions.ConnectTimeout: timeout", "network cannot be reached"),
        ("exit code 1; last line: ImportError: libcudart.so.12: No such file or directory", "from a CUDA image"),
        ("exit code 1; last line: ImportError: libc.so.6: version `GLIBC_2.38' not found", "older base"),
        ("exit code 1; last line: OSError: [Errno 28] No space left on device: 'x'", "make room"),
        ("exit code 1; last line: error: no config file /data/x.txt", "config_file"),
        ("exit code 1; last line: RuntimeError: Found no NVIDIA driver on your system.", "NVIDIA driver"),
    ],
)
def test_the_remedy_fits_the_evidence(evidence: str, remedy: str) -> None:
    assert remedy in _remedy(evidence)
