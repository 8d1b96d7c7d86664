"""Hosts on one machine, each with namespaces of its own, and the network between them, which can be slow, lossy or cut.

A host is a process tree in a network, a process, a mount and a UTS namespace; when its first process ends, the kernel
ends the others. That process waits for the end of its input, which comes when whoever made it closes it or dies: so
nothing is left over, however a test ends. Namespaces have no names, so that runs at once do not meet.

Every host has a TAP, and a thread here carries the Ethernet frames from one to the other.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

#: From Linux's if_tun.h: make an Ethernet device, and read and write bare frames.
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
TUN = Path("/dev/net/tun")
#: Bytes that hold any frame.
LONGEST_FRAME = 1 << 16
#: The address to which frames for everybody are sent, and how those of this network's hosts begin.
EVERYBODY, MAC = b"\xff" * 6, bytes.fromhex("02d1570000")
#: Seconds between two looks at whether the network ends.
LOOK_SECONDS = 0.1
#: A host's first process: it names the host, lets it see the network's names, and waits for its input to end.
INIT = """
hostname "$0" && mount --bind "$1" /etc/hosts && echo ready && exec cat
"""
#: What its network device is given: the name under which it was made, the last byte of its MAC, its address.
DEVICE = """
ip link set lo up
ip link set "$0" name eth0 address "$1" mtu 1500
ip address add "$2/24" dev eth0
ip link set eth0 up
"""


def lacking() -> str:
    """What this machine lacks for a network of hosts; nothing: an empty text."""
    if os.geteuid() != 0:
        return "hosts of their own need root"
    if missing := [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]:
        return f"no {', '.join(missing)} here: apt-get install iproute2 util-linux"
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except OSError as error:
        return f"{TUN}: {error.strerror}"
    tried = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip()


@dataclass(slots=True)
class Host:
    """A host: what runs on it, and how well it is connected."""

    name: str
    address: str
    #: The first process of its namespaces, as this machine numbers it.
    pid: int
    #: File descriptor of the other end of its network device.
    tap: int
    #: What happens to each frame that it sends or is sent.
    delay_seconds: float = 0.0
    loss: float = 0.0
    cut: bool = False

    def command(self, *words: str | Path) -> list[str]:
        """A command line that runs another one on this host."""
        return ["nsenter", f"--target={self.pid}", "--net", "--pid", "--mount", "--uts", "--wd=.", *map(str, words)]


@dataclass(slots=True)
class Network:
    """Makes hosts, which end with the block, and carries frames between them."""

    folder: Path
    seed: int = 0
    hosts: list[Host] = field(default_factory=list)
    #: Frames that were lost so far, of how many.
    lost: int = 0
    carried: int = 0
    _names: dict[str, Host] = field(default_factory=dict)
    #: Frames on their way: when they are due, a number that keeps their order, the frame, and to whom it goes.
    _underway: list[tuple[float, int, bytes, Host]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _carrier: threading.Thread = field(init=False)
    _resources: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self._carrier = threading.Thread(target=self._carry, name="network")

    def __enter__(self) -> Self:
        self._write_names()
        self._carrier.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._carrier.join()
        self._resources.close()

    def host(self, name: str) -> Host:
        """Make a host, known to the others by its name."""
        number = len(self.hosts) + 1
        address = f"10.213.87.{number}"
        tap, device = _make_tap()
        self._resources.callback(os.close, tap)
        pid = self._start_init(name)
        _run("ip", "link", "set", device, "netns", str(pid))
        mac = (MAC + bytes([number])).hex(":")
        _run("nsenter", f"--target={pid}", "--net", "sh", "-ec", DEVICE, device, mac, address)
        host = Host(name, address, pid, tap)
        self.name(name, host)
        self.hosts.append(host)
        return host

    def name(self, name: str, host: Host) -> None:
        """Have a name mean a host, from now on and for everybody."""
        self._names[name] = host
        self._write_names()

    def disturb(self, *, delay_seconds: float = 0.0, loss: float = 0.0) -> None:
        """Have every host's connection be slow and lossy, or neither."""
        for host in self.hosts:
            host.delay_seconds, host.loss = delay_seconds, loss

    @property
    def _names_file(self) -> Path:
        return self.folder / "hosts"

    def _write_names(self) -> None:
        """Write the file in place: hosts have it mounted."""
        lines = ["127.0.0.1 localhost", *(f"{host.address} {name}" for name, host in self._names.items())]
        self._names_file.write_text("\n".join(lines) + "\n")

    def _start_init(self, name: str) -> int:
        namespaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc"]
        init = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-c", INIT, name, self._names_file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._resources.enter_context(init)  # At the end closes its input, and waits for it.
        assert init.stdout is not None
        assert init.stdout.readline() == b"ready\n"
        (first,) = psutil.Process(init.pid).children()
        return first.pid

    def _carry(self) -> None:
        """Carry frames until the network ends."""
        chance = random.Random(self.seed)
        while not self._ended.is_set():
            hosts = {host.tap: host for host in self.hosts}
            wait = self._underway[0][0] - time.monotonic() if self._underway else LOOK_SECONDS
            readable, _, _ = select.select(list(hosts), [], [], min(max(0.0, wait), LOOK_SECONDS))
            for tap in readable:
                with suppress(OSError):  # The host has ended.
                    self._take(hosts[tap], os.read(tap, LONGEST_FRAME), chance)
            self._deliver()

    def _take(self, sender: Host, frame: bytes, chance: random.Random) -> None:
        """Send a frame on its way to whom it is for, unless it is lost."""
        for host in self.hosts:
            if host is sender or frame[:6] not in (EVERYBODY, MAC + bytes([self.hosts.index(host) + 1])):
                continue
            self.carried += 1
            if sender.cut or host.cut or chance.random() < 1.0 - (1.0 - sender.loss) * (1.0 - host.loss):
                self.lost += 1
                continue
            due = time.monotonic() + sender.delay_seconds + host.delay_seconds
            heapq.heappush(self._underway, (due, self.carried, frame, host))

    def _deliver(self) -> None:
        while self._underway and self._underway[0][0] <= time.monotonic():
            _, _, frame, host = heapq.heappop(self._underway)
            with suppress(OSError):  # The device is not up yet, or the host has ended.
                os.write(host.tap, frame)


def _make_tap() -> tuple[int, str]:
    """A network device of its own: the file descriptor of its other end, and the name that the kernel gave it."""
    tap = os.open(TUN, os.O_RDWR)
    answer = fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"distill%d", IFF_TAP | IFF_NO_PI))
    return tap, answer[:16].rstrip(b"\0").decode()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
