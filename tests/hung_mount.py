"""A file system that never answers, like an NFS mount without its server: its users cannot be killed. It needs root."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INIT = 26
_IN_HEADER, _OUT_HEADER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
#: The answer to the first request, of FUSE 7.31: no more than what the kernel wants to see.
_INIT_OUT = struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 1, 1, 4096, 1, 1, 0, 0)
_MNT_DETACH = 2


def can_mount() -> bool:
    """Whether this user can mount one here."""
    return os.geteuid() == 0 and Path("/dev/fuse").exists()


@contextmanager
def hung_mount(folder: Path) -> Iterator[Path]:
    """Mount one at a folder; at the end of the block all who wait for it are freed.

    A process that looks for a file in it is in uninterruptible sleep, since its request was taken and is not answered.
    """
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"hung", bytes(folder), b"fuse", 0, options):
        os.close(device)
        raise OSError(ctypes.get_errno(), "mount")
    ended = threading.Event()
    server = threading.Thread(target=_take_all, args=(device, ended), daemon=True)
    server.start()
    try:
        yield folder
    finally:
        libc.umount2(bytes(folder), _MNT_DETACH)
        ended.set()
        server.join()
        os.close(device)


def _take_all(device: int, ended: threading.Event) -> None:
    """Take each request, and answer the first one only."""
    while not ended.is_set():
        if not select.select([device], [], [], 0.1)[0]:  # A read that blocks would keep the device from being closed.
            continue
        request = os.read(device, 1 << 17)
        _, opcode, unique, *_ = _IN_HEADER.unpack_from(request)
        if opcode == _INIT:
            os.write(device, _OUT_HEADER.pack(_OUT_HEADER.size + len(_INIT_OUT), 0, unique) + _INIT_OUT)
