"""This machine: its addresses and its GPUs."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import socket
import struct
import subprocess

from workflow.errors import listing

_SIOCGIFADDR = 0x8915
"""netdevice(7): the address of an interface."""


def own_address() -> str:
    """The address of the interface with the default route. Connecting a datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address reserved for documentation (RFC 5737)
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())


def foreign_address(address: str) -> str:
    """Why an IP address is not this machine's; empty if it is."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return f"address {address} is not this machine's ({error.strerror}); it has {listing(_own_addresses())}"
    return ""


def _own_addresses() -> list[str]:
    """The IPv4 addresses of the interfaces."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found


def visible_gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs of this machine that this process may use, by number or as CUDA_VISIBLE_DEVICES names them."""
    mask = os.environ.get("CUDA_VISIBLE_DEVICES")
    if mask is not None and mask.strip() in ("", "-1", "NoDevFiles"):
        return ()
    if shutil.which("nvidia-smi") is None:
        return ()
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    count = sum(line.startswith("GPU ") for line in listed.splitlines())
    if mask is None or not count:
        return tuple(map(str, range(count)))
    # CUDA takes a mask up to its first invalid entry.
    return tuple(itertools.takewhile(lambda name: name not in ("", "-1"), (part.strip() for part in mask.split(","))))
