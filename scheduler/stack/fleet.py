"""A fleet: one worker a device of this machine, started again when it dies, unless it never comes to work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from distill_queue.scheduler.stack.child import STOP_SECONDS, WELL_SECONDS, Child, worker_command
from distill_queue.scheduler.stack.devices import Device

#: Seconds before a worker that died is started again: doubled each time, up to the longest.
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
#: How often a worker is started that never comes to work.
MOST_STARTS = 5


@dataclass(slots=True)
class Berth:
    """A device's place in the fleet, and the worker in it."""

    device: Device
    worker: Child
    started: float = 0.0
    #: When it is to be started again, by the monotonic clock; None while it lives.
    due: float | None = 0.0
    wait_seconds: float = FIRST_WAIT_SECONDS
    #: How often in a row it ended before it worked.
    in_vain: int = 0


@dataclass(slots=True)
class Fleet:
    """Starts and watches the workers; `tend` is to be called every second or more often."""

    berths: list[Berth]
    tell: Callable[[str], None]
    now: Callable[[], float] = field(default=time.monotonic)

    @classmethod
    def of(
        cls, devices: Sequence[Device], name: str, tell: Callable[[str], None], first_metrics_port: int = 0
    ) -> Fleet:
        """A fleet for some devices; a worker's name is `<name>-<device>@<host>`, and each serves metrics on a port."""
        berths = []
        for number, device in enumerate(devices):
            command = worker_command(",".join(device.queues), f"{name}-{device.name}")
            port = {"DISTILL_METRICS_PORT": str(first_metrics_port + number)} if first_metrics_port else {}
            environment = device.environment | port
            worker = Child(f"{name}-{device.name}", command, environment, log=None)
            berths.append(Berth(device, worker))
        return cls(berths, tell)

    def tend(self) -> None:
        """Start the workers that are due, and look for those that died.

        Raises:
            DistillError: no worker is left that could be started; of the kind that the last one's exit code says.

        """
        for berth in list(self.berths):
            if berth.due is None and not berth.worker.alive:
                self._plan_again(berth)
            if berth.due is not None and self.now() >= berth.due:
                berth.worker.start()
                berth.started, berth.due = self.now(), None
                serves = f"serves {', '.join(berth.device.queues)}"
                self.tell(f"{berth.worker.name} started (process {berth.worker.pid}), {serves}")

    def end(self) -> None:
        """Have all workers hand back what they do, and end."""
        for berth in self.berths:
            berth.worker.ask_to_end()
        deadline = time.monotonic() + STOP_SECONDS
        for berth in self.berths:
            berth.worker.end(deadline)

    def _plan_again(self, berth: Berth) -> None:
        if berth.worker.worked:
            berth.in_vain = 0
        else:
            berth.in_vain += 1
            # Settings that are wrong will be wrong the next time.
            if berth.in_vain >= MOST_STARTS or berth.worker.was_misled:
                self._give_up(berth)
                return
        if self.now() - berth.started >= WELL_SECONDS:
            berth.wait_seconds = FIRST_WAIT_SECONDS
        berth.due = self.now() + berth.wait_seconds
        died = f"{berth.worker.name} died (exit code {berth.worker.exit_code})"
        self.tell(f"{died}: starts again in {berth.wait_seconds:.0f} s")
        berth.wait_seconds = min(2 * berth.wait_seconds, LONGEST_WAIT_SECONDS)

    def _give_up(self, berth: Berth) -> None:
        """Go on without a worker that never comes to work."""
        times = "once" if berth.in_vain == 1 else f"{berth.in_vain} times"
        worker = berth.worker
        started = f"it was started {times} and ended before it worked (exit code {worker.exit_code})"
        reason = f"{worker.name} is given up: {started}: {worker.error or 'what it said stands above'}"
        self.berths.remove(berth)
        if not self.berths:
            raise worker.failure(reason)
        self.tell(f"{reason}; the other workers go on")
