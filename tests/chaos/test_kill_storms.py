"""Verbs killed (kill -9) 20 times each at moments all over their run, and then run again."""

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from chaos_facts import dump, engine_of
from chaos_postgres import Server
from kill_storm import KillStorm
from stored_study import StoredStudy
from trained_runs import folder_of, make_runs

from searcher.bundle.load import load_bundle
from searcher.data_pipeline import SyntheticGlands, prepare_store
from searcher.ledger import engine as engines
from searcher.ledger.database import Database
from searcher.ledger.migrations import upgrade
from searcher.ledger.optuna_tables import open_optuna_storage

_KILLS = 20
_ROUNDS = 5
"""How often a storm begins anew: a verb is killed four times in a row, then runs to its end."""
_DUMP = Path(__file__).parents[1] / "searcher" / "ledger" / "golden" / "0001.sql"
"""A database that the released version of revision 0001 wrote."""
_MODULES = ("searcher.cli.terminal", "searcher.ledger.doctor", "searcher.ledger.retention", "alembic.command")
_EXPORT_MODULES = (
    "torch",
    "searcher.bundle.onnx",
    "searcher.bundle.load",
    "searcher.api.exporting",
    "searcher.report.pictures",
)


@pytest.fixture(scope="module")
def _storm() -> Iterator[KillStorm]:
    storm = KillStorm(random.Random(), *_MODULES)
    yield storm
    storm.close()


@pytest.fixture
def storm(_storm: KillStorm, chance: random.Random) -> KillStorm:
    """A storm whose moments follow from the printed seed."""
    _storm.chance = chance
    return _storm


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with its own cache."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEARCHER_CACHE", str(folder / "cache"))
    monkeypatch.delenv("SEARCHER_DB", raising=False)
    return folder


def _rounds(
    storm: KillStorm,
    work: Path,
    *words: str,
    holds: Callable[[], None],
    anew: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Yield each time that a verb was killed four times and then came to its end.

    Args:
        storm: Kills.
        work: The folder of the verb, put back before each round.
        words: Its command line.
        holds: Checks what must be true after each kill.
        anew: Puts back what lies elsewhere.
    """
    pristine = work.with_name("pristine")
    shutil.copytree(work, pristine)
    moments: list[int] = []
    num_killed = 0
    for number in range(-1, _ROUNDS):
        shutil.rmtree(work)
        shutil.copytree(pristine, work)
        if anew is not None:
            anew()
        if number < 0:
            moments = storm.moments(work, *words, count=_KILLS)
            continue
        for at in moments[number::_ROUNDS]:
            num_killed += storm.kill(work, *words, at=at)
            holds()
        code, output = storm.run(work, *words)
        assert code == 0, output
        yield
    assert num_killed >= _ROUNDS, "the first kill of a round meets a verb that has all its work before it"


def _files(folder: Path) -> dict[str, str]:
    """Return the digests of what the storage root holds."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths
    }


def _rows(database: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute(query).fetchall()


def _assert_records_are_true(work: Path) -> None:
    """Each checkpoint that the database has is there, byte for byte."""
    rows = _rows(
        work / "searcher.db", "SELECT uri, sha256 FROM searcher_checkpoints WHERE removed_at IS NULL"
    )
    assert rows
    for uri, sha256 in rows:
        assert hashlib.sha256((work / "runs" / str(uri)).read_bytes()).hexdigest() == sha256, uri


@pytest.mark.fault(
    "kill -9 of `searcher export --force` at 20 moments all over its run",
    holds="the old bundle or the new one is whole under its name; the next export leaves nothing else beside it",
)
def test_export_that_is_killed(
    chance: random.Random, work: Path, request: pytest.FixtureRequest, fact: Callable[[str], None]
):
    make_runs(work / "trained", ["plain"])
    with Database.open("searcher.db", create=True) as database:
        study = StoredStudy(database, work)
        number = study.begin()
        study.save(number, "best", (folder_of(work / "trained", "plain") / "best.pt").read_bytes())
        study.ledger.report(number, 1, {"object_dice": 0.7})
        study.ledger.complete(number, 0.7, best_epoch=1, stop_reason="epochs")
    shutil.rmtree(work / "trained")
    storm = KillStorm(chance, *_MODULES, *_EXPORT_MODULES)
    request.addfinalizer(storm.close)
    export = ("export", "--study", "s", "--to", "winner", "--force", "--name")
    code, output = storm.run(work, *export, "old")
    assert code == 0, output

    def old_or_new() -> None:
        assert load_bundle(work / "winner").name in ("old", "new")

    for _ in _rounds(storm, work, *export, "new", holds=old_or_new):
        assert load_bundle(work / "winner").name == "new"
        assert [path.name for path in work.iterdir() if "winner" in path.name] == ["winner"]
        recorded = _rows(work / "searcher.db", "SELECT sha256 FROM searcher_exports")
        assert (hashlib.sha256((work / "winner" / "bundle.json").read_bytes()).hexdigest(),) in recorded
    fact(f"{_KILLS} kills")


@pytest.mark.fault(
    "kill -9 of `searcher gc` at 20 moments all over its run",
    holds="each recorded checkpoint is there, byte for byte; the next gc ends as one that was never killed",
)
def test_gc_that_is_killed(storm: KillStorm, work: Path, fact: Callable[[str], None]):
    with Database.open("searcher.db", create=True) as database:
        study = StoredStudy(database, work)
        for value in (0.5, 0.9, 0.7, 0.6, 0.8):
            study.complete(value)
    best = [f"s/trial-{number:04d}/best.pt" for number in (1, 4)]
    kept = {
        name: digest for name, digest in _files(work / "runs").items() if name in best or ".pt" not in name
    }
    for _ in _rounds(storm, work, "gc", "--keep", "2", holds=lambda: _assert_records_are_true(work)):
        assert _files(work / "runs") == kept
        _assert_records_are_true(work)
    fact(f"{_KILLS} kills")


@pytest.mark.fault(
    "kill -9 of `searcher doctor --fix` at 20 moments all over its run: a trial whose driver is gone, half-written "
    "files, a checkpoint under another name, a damaged store",
    holds="nothing is lost or queued twice; the next `doctor --fix` fixes all that is left",
)
def test_doctor_that_is_killed(storm: KillStorm, work: Path, fact: Callable[[str], None]):
    with Database.open("searcher.db", create=True) as database:
        study = StoredStudy(database, work)
        study.complete(0.5)
        running = study.begin()
        study.save_all(running)
        study.lease().release()
        with database.write() as session:  # as a driver leaves it that is killed
            session.execute(
                sa.text("UPDATE searcher_launches SET ended_at = NULL, outcome = NULL, process_started = 1")
            )
    (study.folder(0) / "best.pt").rename(study.folder(0) / "previous-best.pt")
    (study.folder(0) / "last.pt.tmp").write_bytes(b"half")
    store = prepare_store(SyntheticGlands(num_images=2, size_px=32, seed=0), work / "cache").path
    (store / "labels.bin").write_bytes(bytes((store / "labels.bin").stat().st_size))

    def nothing_is_lost() -> None:
        states = _rows(work / "searcher.db", "SELECT state FROM trials ORDER BY number")
        assert states[0] == ("COMPLETE",)
        assert len(states) <= 3, "queued twice"

    for _ in _rounds(storm, work, "doctor", "--fix", holds=nothing_is_lost):
        states = [
            state for (state,) in _rows(work / "searcher.db", "SELECT state FROM trials ORDER BY number")
        ]
        assert states == ["COMPLETE", "FAIL", "WAITING"]
        _assert_records_are_true(work)
        assert not store.exists()
        assert not list(work.rglob("*.tmp"))
        assert not _rows(work / "searcher.db", "SELECT id FROM searcher_launches WHERE ended_at IS NULL")
        code, output = storm.run(work, "doctor")
        assert (code, output.strip()) == (0, "nothing is wrong")
    fact(f"{_KILLS} kills")


def _old_sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_DUMP.read_text())


def _old_postgres(url: str, rows_of: Path) -> None:
    """Make the same database on PostgreSQL, row by row."""
    address = engines.parse_url(url)
    open_optuna_storage(address, create=True).engine.dispose()
    engine = engines.connect(address, create=True)
    upgrade(engine, "0001")
    tables = sa.MetaData()
    tables.reflect(engine)
    source = engine_of(str(rows_of))
    with source.connect() as old, engine.begin() as new:
        for table in tables.sorted_tables:
            if new.execute(sa.select(table)).first() is not None:  # the revisions
                continue
            rows = [dict(row) for row in old.execute(sa.select(table)).mappings()]
            if rows:
                new.execute(table.insert(), rows)
    source.dispose()
    engine.dispose()


@pytest.mark.parametrize("kind", ["SQLite", "PostgreSQL"])
@pytest.mark.fault(
    "kill -9 of the upgrade of a released version's database at 20 moments all over its run",
    holds="no row is lost; it is as it was or upgraded; the next one ends as one that was never killed",
)
def test_an_upgrade_that_is_killed(
    kind: str, storm: KillStorm, work: Path, request: pytest.FixtureRequest, fact: Callable[[str], None]
):
    _old_sqlite(work / "searcher.db")
    url, anew = str(work / "searcher.db"), None
    if kind == "PostgreSQL":
        server: Server = request.getfixturevalue("postgres")
        _old_postgres(server.new_database("template_0001"), work / "searcher.db")
        url = server.url("upgraded")

        def anew() -> None:
            with server.connection() as connection:
                connection.execute("DROP DATABASE IF EXISTS upgraded WITH (FORCE)")
                connection.execute("CREATE DATABASE upgraded TEMPLATE template_0001")

        anew()
    before = dump(url)
    assert before["searcher_alembic_version"] == ["('0001',)"]
    with_rows = {name for name, rows in before.items() if rows}
    assert {"trials", "searcher_epochs", "searcher_checkpoints"} <= with_rows

    def no_row_is_lost() -> None:
        now = dump(url)
        assert {name: len(rows) for name, rows in now.items() if name in before} == {
            name: len(rows) for name, rows in before.items()
        }
        if now["searcher_alembic_version"] == before["searcher_alembic_version"]:
            assert {name: now[name] for name in before} == before

    ends = []
    for _ in _rounds(storm, work, "open", url, holds=no_row_is_lost, anew=anew):
        ends.append(dump(url))
    assert ends[0]["searcher_alembic_version"] != before["searcher_alembic_version"]
    assert all(end == ends[0] for end in ends)
    fact(f"{kind}: {_KILLS} kills")
