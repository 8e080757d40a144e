"""The entrypoint, run for real: a head and a worker with a token, as compose starts them, and a launch on them.

Ray's workers and agents, and `searcher`, are forked: they need not import torch and Ray again. Head and worker are on
addresses of loopback that Ray does not turn into the machine's own, which it does with 127.0.0.1 (2.60).
"""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from forks import Forks

_HEAD, _WORKER = "127.0.0.2", "127.0.0.3"
_TOKEN = "5eaf00d5" * 8


@dataclass
class Cluster:
    """A head and a worker, started by the entrypoint."""

    head: subprocess.Popen[bytes]
    worker: subprocess.Popen[bytes]
    port: int
    web_port: int
    environment: dict[str, str]

    def processes(self) -> list[psutil.Process]:
        roots = [psutil.Process(self.head.pid), psutil.Process(self.worker.pid)]
        return roots + [child for root in roots for child in root.children(recursive=True)]


def _status(url: str, token: str | None) -> int:
    """Return the HTTP status that a request with this token gets."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def _environment(**more: str) -> dict[str, str]:
    """What a container has: no token of the user's, no cluster of the tests'."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return kept | {"PATH": path, "OMP_NUM_THREADS": "1"} | more


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / "ray_token"
    path.write_text(_TOKEN)
    path.chmod(0o600)
    return path


def _free_port() -> int:
    """Return a port that nothing listens on, and that the system gives to no outgoing connection either."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("0.0.0.0", port))
            return port


@contextmanager
def _node(
    start: Callable[[], tuple[list[str], list[str]]], log: Path, environment: dict[str, str]
) -> Iterator[Any]:
    """A healthy node of the cluster; started again, on other ports, if it ends before it is one, as compose does.

    Args:
        start: Returns the command, and the URLs that say whether the node is healthy.
        log: Where its output goes.
        environment: Its environment.
    """
    for _ in range(3):  # a raylet has 30 s to come up, wherever else the machine is busy (Ray 2.60)
        arguments, urls = start()
        script = arguments[0]
        with log.open("ab") as stream:
            process = subprocess.Popen(
                arguments, stdout=stream, stderr=stream, env=environment, start_new_session=True
            )
        while process.poll() is None:
            if (
                subprocess.run([script, "health", *urls], env=_environment(), capture_output=True).returncode
                == 0
            ):
                try:
                    yield process
                finally:
                    process.terminate()
                    process.wait(60)
                return
            time.sleep(1.5)  # a check costs a fifth of a second of a processor
    pytest.fail(f"{urls}: not healthy; exit code {process.returncode}\n{log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def scratch() -> Iterator[Path]:
    """Ray's folder, short as a container's: what it makes for its sockets there may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def cluster(folder: Path, secret: Path, scratch: Path, forks: Forks) -> Iterator[Cluster]:
    script = str(folder / "entrypoint.sh")
    secrets = {"RAY_AUTH_TOKEN_PATH": str(secret), "SEARCHER_DB": "@/run/secrets/database_url"}
    environment = _environment(**secrets, **forks.variables())
    ports: dict[str, int] = {}

    def start_head() -> tuple[list[str], list[str]]:
        ports.update(head=_free_port(), web=_free_port(), agent=_free_port(), client=_free_port())
        arguments = [
            *(script, "head", f"--node-ip-address={_HEAD}", f"--port={ports['head']}"),
            *("--num-cpus=0", "--num-gpus=0", f"--temp-dir={scratch}"),
            *("--dashboard-host=127.0.0.1", f"--dashboard-port={ports['web']}"),
            f"--dashboard-agent-listen-port={ports['agent']}",
            f"--ray-client-server-port={ports['client']}",
        ]
        return arguments, [
            f"http://{_HEAD}:{ports['agent']}/api/local_raylet_healthz",
            f"http://127.0.0.1:{ports['web']}/api/gcs_healthz",
        ]

    def start_worker() -> tuple[list[str], list[str]]:
        agent = _free_port()
        arguments = [
            *(script, "worker", f"--address={_HEAD}:{ports['head']}", f"--node-ip-address={_WORKER}"),
            *("--num-cpus=1", "--num-gpus=0", f"--temp-dir={scratch}"),
            f"--dashboard-agent-listen-port={agent}",
        ]
        return arguments, [f"http://{_WORKER}:{agent}/api/local_raylet_healthz"]

    head_log, worker_log = scratch / "head.log", scratch / "worker.log"
    with (
        _node(start_head, head_log, environment) as head,
        _node(start_worker, worker_log, environment) as worker,
    ):
        running = Cluster(head, worker, ports["head"], ports["web"], environment)
        yield running
        everything = running.processes()
        assert len(everything) > 5
    _, alive = psutil.wait_procs(everything, timeout=30)
    assert alive == []
    for log in (head_log, worker_log):
        assert _TOKEN not in log.read_text()


def test_strangers_are_refused(cluster: Cluster) -> None:
    jobs = f"http://127.0.0.1:{cluster.web_port}/api/jobs/"
    assert _status(jobs, token=None) == 401
    assert _status(jobs, token="ffffffff" * 8) == 403
    assert _status(jobs, token=_TOKEN) == 200
    stranger = _environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="ffffffff" * 8)
    command = ["ray", "health-check", "--address", f"{_HEAD}:{cluster.port}"]
    run = subprocess.run(command, env=stranger, capture_output=True, text=True, timeout=100)
    assert run.returncode != 0
    assert "InvalidAuthToken" in run.stderr


@pytest.fixture(scope="module")
def launched(
    cluster: Cluster, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], dict[str, str]]:
    """A launch as `compose exec head searcher launch` does it, the database in a file that SEARCHER_DB names."""
    room = tmp_path_factory.mktemp("launch")
    (room / "database_url").write_text(f"{room / 'searcher.db'}\n")
    settings = [
        "model.depth=2",
        "data.synthetic_images=8",
        "data.samples_per_epoch=8",
        "data.synthetic_size_px=128",
    ]
    command = [
        *(
            folder / "entrypoint.sh",
            "searcher",
            "launch",
            "--study",
            "unet-demo",
            "--trials",
            "1",
            "--epochs",
            "1",
        ),
        *(
            "--address",
            f"{_HEAD}:{cluster.port}",
            *(part for setting in settings for part in ("--set", setting)),
        ),
    ]
    environment = cluster.environment | {
        "SEARCHER_DB": f"@{room / 'database_url'}",
        "SEARCHER_CACHE": str(tmp_path_factory.getbasetemp() / "stores"),
    }
    run = subprocess.run(command, env=environment, cwd=room, capture_output=True, text=True, timeout=200)
    return run, environment


def test_a_launch_from_the_heads_container_trains_on_the_worker(
    folder: Path, launched: tuple[subprocess.CompletedProcess[str], dict[str, str]]
) -> None:
    launch, environment = launched
    assert launch.returncode == 0, launch.stdout + launch.stderr
    assert "all 1 trials done" in launch.stdout
    command = [folder / "entrypoint.sh", "searcher", "status", "--study", "unet-demo", "--json"]
    status = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "unet-demo" in json.dumps(json.loads(status.stdout))


def test_the_dashboard_shows_it_to_whoever_has_the_token(
    folder: Path,
    launched: tuple[subprocess.CompletedProcess[str], dict[str, str]],
    secret: Path,
    tmp_path: Path,
) -> None:
    port = _free_port()
    url = f"http://127.0.0.1:{port}/"
    script = str(folder / "entrypoint.sh")
    arguments = [script, "dashboard", "--host=127.0.0.1", f"--port={port}", f"--token-file={secret}"]
    log = tmp_path / "log"
    with _node(lambda: (arguments, [url]), log, launched[1]):
        assert _status(f"{url}api/studies", token=None) == 401
        assert _status(f"{url}api/studies", token=_TOKEN) == 200
    assert _TOKEN not in log.read_text()


def test_no_process_shows_the_token_or_knows_the_database(cluster: Cluster) -> None:
    for process in cluster.processes():
        try:
            environment = process.environ()
            shown = " ".join(process.cmdline()) + str(environment)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        assert _TOKEN not in shown, process.name()
        assert "SEARCHER_DB" not in environment, process.name()


_UNREADABLE = "must be a readable file with a token in it"


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "must name the file with the cluster's token, got nothing; docker/secrets.sh makes one"),
        ("/nowhere/token", f"{_UNREADABLE}, got /nowhere/token as user"),
        ("/dev/null", f"{_UNREADABLE}, got /dev/null as user"),
    ],
    ids=["none", "missing", "empty"],
)
@pytest.mark.parametrize("role", ["head", "worker"])
def test_without_its_token_no_node_starts(folder: Path, role: str, path: str, rule: str) -> None:
    run = subprocess.run(
        [folder / "entrypoint.sh", role],
        env=_environment(RAY_AUTH_TOKEN_PATH=path),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 2
    assert run.stderr.startswith(f"RAY_AUTH_TOKEN_PATH: {rule}")
    assert run.stderr.count("\n") == 1


def test_health_says_what_does_not_answer(folder: Path) -> None:
    url = f"http://127.0.0.1:{_free_port()}/"
    run = subprocess.run(
        [folder / "entrypoint.sh", "health", url], env=_environment(), capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith(url)


def test_anything_else_is_run_as_it_is(folder: Path) -> None:
    script = folder / "entrypoint.sh"
    assert subprocess.run([script, "sh", "-c", "exit 7"], env=_environment()).returncode == 7
    assert subprocess.run([script], env=_environment(), capture_output=True).returncode == 2
