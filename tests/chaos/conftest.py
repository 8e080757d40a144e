"""One cluster for the session, studies that leave nothing behind, and the table of faults."""

import itertools
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chaos_harness import PLAN, Study, study_text
from chaos_nodes import Nodes
from chaos_postgres import Server
from chaos_table import fact, pytest_addoption, pytest_runtest_makereport, pytest_terminal_summary
from filelock import FileLock
from forks import Forks, common_folder

__all__ = ["fact", "pytest_addoption", "pytest_runtest_makereport", "pytest_terminal_summary"]

_SEED = int(os.environ.get("SEARCHER_CHAOS_SEED") or secrets.randbelow(10**6))
os.environ["SEARCHER_CHAOS_SEED"] = str(_SEED)  # for the processes that pytest-xdist starts
_LONGEST_S = 900
"""Seconds after which a test hangs: several launches, one after the other, on a machine that is busy."""

_LONG = (
    "test_detached.py",
    "test_driver_killed.py",
    "test_interrupted.py",
    "test_coarse_to_fine.py",
    "test_file_troubles.py",
    "test_memory_monitor.py",
    "test_database_away.py",
    "test_nodes_apart.py",
    "test_hanging_workers.py",
    "test_operators.py",
    "test_object_store.py",
    "test_workers_and_nodes.py",
    "test_damaged_checkpoints.py",
)
"""The files whose tests take longest, the longest first: a test that begins last would run alone in the end."""


def pytest_report_header() -> str:
    return f"chaos seed: {_SEED} (run again with SEARCHER_CHAOS_SEED={_SEED})"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("chaos")
            item.add_marker(pytest.mark.timeout(_LONGEST_S))
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Randomness that follows from the printed seed and the test's name."""
    return random.Random(f"{_SEED} {request.node.name}")


@pytest.fixture(scope="session")
def cluster_plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan of faults that workers of the session's cluster follow; empty unless a launch writes one."""
    return tmp_path_factory.mktemp("cluster") / "plan.json"


@pytest.fixture(scope="session")
def cluster_address(
    cluster_plan: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a Ray node with three CPUs, for launches that need no cluster of their own."""
    from ray.cluster_utils import Cluster

    import searcher.orchestration.cluster.ray_cluster  # noqa: F401  sets what ray reads when it is imported

    environment = dict(os.environ)
    os.environ |= {PLAN: str(cluster_plan), "OMP_NUM_THREADS": "1"} | forks.variables()
    head = {"num_cpus": 3, "include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    # One at a time: Ray gives each of its processes 30 s to come up.
    with FileLock(common_folder(tmp_path_factory) / "cluster.lock"):
        cluster = Cluster(initialize_head=True, head_node_args=head)
    os.environ.clear()
    os.environ.update(environment)
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def nodes(tmp_path: Path, forks: Forks) -> Iterator[Nodes]:
    """A cluster of three raylets with one CPU each."""
    cluster = Nodes(tmp_path / "nodes-plan.json", forks)
    yield cluster
    cluster.close()


@pytest.fixture
def new_study(
    tmp_path: Path, cache_dir: Path, cluster_address: str, cluster_plan: Path, forks: Forks
) -> Iterator[Callable[..., Study]]:
    """A function that makes a study from changed lines of the tiny one; all its launches end with the test.

    The workers of another cluster than the session's follow the `plan` that it was started with.
    """
    studies: list[Study] = []

    def make(
        *,
        database: str | None = None,
        storage: Path | None = None,
        address: str | None = cluster_address,
        plan: Path | None = None,
        **settings,
    ) -> Study:
        folder = tmp_path / f"study-{len(studies)}"
        folder.mkdir()
        studies.append(
            Study(
                folder,
                cache_dir,
                study_text(**settings),
                address,
                cluster_plan=cluster_plan if address == cluster_address else plan,
                database=database,
                storage=storage,
                forks=forks,
            )
        )
        return studies[-1]

    yield make
    for study in studies:
        study.close()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A temporary folder for a launch. Of a longer path the launch takes no notice, because of Ray's sockets."""
    for number in itertools.count():
        folder = Path(f"/tmp/c{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        break
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """A PostgreSQL server of the chaos tests' own."""
    # Not in pytest's folder: every pytest that begins closes it to other users, PostgreSQL's among them.
    with tempfile.TemporaryDirectory(prefix="chaos-postgres-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder))
        yield server
        server.close()


@pytest.fixture
def postgres(postgres_server: Server) -> Iterator[Server]:
    """That server, which a test may stop; it is started again should the test leave it stopped."""
    yield postgres_server
    postgres_server.start()
