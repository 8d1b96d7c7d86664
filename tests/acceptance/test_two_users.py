"""Two users of one group share a store: one's worker makes what the other one's commands read, move and remove."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis

from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.settings import Settings
from tests.acceptance.conftest import clean_environment, free_port
from tests.conftest import wait_until

ROOT = Path(__file__).parents[2]
GROUP = 20_500

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of two other users")


@dataclass(frozen=True)
class User:
    """A user of the group, by number: the system need not know a name for it."""

    number: int
    place: Path
    environment: dict[str, str]
    umask: int = 0o002

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command of theirs."""
        home = self.place / str(self.number)
        if not home.exists():
            home.mkdir(mode=0o700)
            os.chown(home, self.number, self.number)
        own = {"HOME": str(home), "MPLCONFIGDIR": str(home), "PYTHONPATH": os.pathsep.join(import_path())}
        return subprocess.Popen(
            [
                interpreter(self.place),
                "-c",
                "from distill_queue.scheduler.cli.main import main; main()",
                *map(str, arguments),
            ],
            user=self.number,
            group=self.number,
            extra_groups=[GROUP],
            umask=self.umask,
            cwd=home,
            env=self.environment | own | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def distill(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command of theirs to its end."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=240)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def import_path() -> list[str]:
    return [str(ROOT), sysconfig.get_path("purelib")]


def interpreter(place: Path) -> str:
    """A Python that others may run: this one, or a copy of it where it lies in a folder of root's own."""
    if is_open_to_others(Path(sys.executable).resolve()):
        return sys.executable
    copy, version = place / "python", f"python{sysconfig.get_python_version()}"
    if not copy.exists():
        unused = shutil.ignore_patterns("site-packages", "test", "idlelib", "config-*")
        shutil.copytree(Path(sysconfig.get_path("stdlib")), copy / "lib" / version, ignore=unused)
        for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
            shutil.copy(library, copy / "lib")
        (copy / "bin").mkdir()
        shutil.copy(Path(sys.executable).resolve(), copy / "bin" / version)
    return str(copy / "bin" / version)


def is_open_to_others(path: Path) -> bool:
    return all(each.stat().st_mode & stat.S_IXOTH for each in (path, *path.parents))


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that all may enter: pytest's own are root's."""
    if not all(map(is_open_to_others, map(Path, import_path()))):
        pytest.skip("other users cannot read this checkout or its packages")
    with tempfile.TemporaryDirectory(prefix="distill-users-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def store(place: Path) -> Path:
    """A store as docs/how-to/shared-store.md has it made."""
    folder = place / "store"
    folder.mkdir()
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    return folder


@pytest.fixture
def users(place: Path, store: Path) -> Iterator[tuple[User, User]]:
    """Two users of the store's group, and a broker that both reach."""
    settings = Settings(store=place / "server", broker_url=f"redis://127.0.0.1:{free_port()}/0")
    with LocalStack(settings, workers=0, server_folder=place / "server"):
        environment = clean_environment(store) | {
            "DISTILL_BROKER_URL": settings.broker_url,
            "LD_LIBRARY_PATH": str(place / "python" / "lib"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "400",
        }
        yield User(20_001, place, environment), User(20_002, place, environment)


@pytest.fixture
def spec(write_spec: Callable[..., Path], place: Path) -> Path:
    """A small pipeline's spec that all may read."""
    return Path(shutil.copy(write_spec(), place))


@pytest.fixture
def worker(users: tuple[User, User]) -> Iterator[subprocess.Popen[str]]:
    """A worker of the first user."""
    process = users[0].start("worker", "--devices", "cpu")
    yield process
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


def test_two_users_of_a_group_share_a_store(
    users: tuple[User, User], worker: subprocess.Popen[str], store: Path, spec: Path
) -> None:
    _, other = users

    submitted = other.distill("submit", "--watch", spec)
    pipeline = submitted.stdout.split()[0]
    planned = other.distill("plan", "--json", spec)
    listed = other.distill("store", "ls", "--json")
    examined = other.distill("doctor")
    page = store / "reports" / f"{pipeline}.html"
    wait_until(page.exists, "the worker draws the page")
    page.unlink()
    reported = other.distill("report", pipeline)

    assert submitted.returncode == 0, submitted.stderr
    assert all(stage["found"] for stage in json.loads(planned.stdout)["stages"]), planned.stderr
    assert min(each["size_bytes"] for each in json.loads(listed.stdout)["artifacts"]) > 1_000, listed.stderr
    assert examined.returncode == 0, examined.stdout
    assert (reported.stdout.strip(), page.stat().st_uid) == (str(page), other.number), reported.stderr

    weights = next(store.glob("artifacts/train_teacher/*/*/model.safetensors"))
    os.truncate(weights, 3)
    verified = other.distill("store", "verify", "--set-aside")
    again = other.distill("submit", "--watch", spec)

    assert "(set aside)" in verified.stdout, verified.stderr
    assert again.returncode == 0, again.stderr
    assert weights.stat().st_size > 3

    removed = other.distill("store", "gc", "--keep-days", "0", "--without-broker", "--yes", "--json")

    assert len(json.loads(removed.stdout)["removed"]) == 9, removed.stderr
    assert not list(store.glob("artifacts/*/*/*"))


def test_what_one_user_submitted_another_one_recovers(users: tuple[User, User], store: Path, spec: Path) -> None:
    first, other = users
    pipeline = first.distill("submit", spec).stdout.strip()
    with redis.Redis.from_url(first.environment["DISTILL_BROKER_URL"]) as broker:
        broker.flushall()

    recovered = other.distill("recover")
    cancelled = other.distill("cancel", pipeline)

    assert recovered.stdout.split()[0] == pipeline, recovered.stderr
    assert cancelled.returncode == 0, cancelled.stderr
    assert list((store / "pipelines").iterdir()) == []


def test_what_one_user_has_closed_is_named_to_the_other_by_every_command(
    users: tuple[User, User], store: Path, spec: Path
) -> None:
    first, other = (replace(user, umask=umask) for user, umask in zip(users, (0o077, 0o002), strict=True))
    made = first.distill("run", spec)
    (page,) = (store / "reports").glob("*.html")
    waiting = first.distill("submit", spec).stdout.strip()

    examined = other.distill("doctor")
    commands = [
        ("plan", spec), ("submit", spec), ("recover",), ("cancel", waiting), ("report", page.stem), ("run", spec),
        ("store", "ls"), ("store", "verify"), ("store", "gc", "--yes"), ("labels", "info", "0123"),
    ]  # fmt: skip
    said = {command: other.distill(*command) for command in commands}

    assert made.returncode == 0, made.stderr
    assert examined.returncode == 3
    assert f"{store}/artifacts: this user cannot read or write or enter it ({first.number}:" in examined.stdout
    for command, done in said.items():
        assert done.returncode == 3, (command, done.stdout, done.stderr)
        assert len(done.stderr.splitlines()) == 1, (command, done.stderr)
        assert done.stderr.startswith(f"error: store: {store}/"), (command, done.stderr)
        assert "Permission denied: 'distill doctor' says what this user cannot use" in done.stderr
