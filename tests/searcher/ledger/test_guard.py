"""A driver that lost its study, or its database's file, writes nothing any more, by whichever way."""

import shutil
import sqlite3

import pytest
import small_ledger
import sqlalchemy as sa
from optuna.trial import TrialState

from searcher.exceptions import DatabaseAwayError, DatabaseError, DatabaseReplacedError, StudyConflictError
from searcher.ledger import guard
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.tables import LaunchRow, utc_now


def dump(database: Database) -> dict[str, list[tuple]]:
    with database.engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
        return {name: connection.execute(sa.text(f"SELECT * FROM {name}")).all() for name in tables}


@pytest.fixture
def drivers(database, database_url):
    """Ledger and lease of a driver that stood still, and the database as another one has it that took over."""
    ledger = small_ledger.register(database)
    with Lease.acquire(database, "s") as lease, Database.open(database_url) as other:
        number = small_ledger.ask(ledger)
        ledger.report(number, 1, small_ledger.metrics(0.5))
        with other.write() as session:
            session.execute(sa.update(LaunchRow).values(ended_at=utc_now(), outcome="lost"))
        yield ledger, lease, other, number


WRITES = {
    "report": lambda ledger, n: ledger.report(n, 2, small_ledger.metrics(0.6)),
    "checkpoint": lambda ledger, n: ledger.checkpoint(n, small_ledger.checkpoint("best", epoch=1)),
    "note": lambda ledger, n: ledger.note(n, node="x"),
    "complete": lambda ledger, n: ledger.complete(n, 0.5, best_epoch=1, stop_reason="epochs"),
    "prune": lambda ledger, n: ledger.prune(n, 1),
    "fail": lambda ledger, n: ledger.fail(n, "x", retry=True),
    "reconcile": lambda ledger, n: ledger.reconcile("x"),
    "begin": lambda ledger, n: small_ledger.ask(ledger),
    "enqueue": lambda ledger, n: ledger.enqueue([{"optimizer.lr": 0.02, "optimizer.name": "sgd"}]),
    "ask": lambda ledger, n: ledger.optuna_study.ask(),
    "tell": lambda ledger, n: ledger.optuna_study.tell(n, state=TrialState.FAIL),
    "attribute": lambda ledger, n: ledger.optuna_study.set_user_attr("x", 1),
    "delete": lambda ledger, n: ledger.database.optuna_storage.delete_study(ledger.optuna_study._study_id),
}


def test_whose_study_was_taken_over_writes_nothing(drivers):
    ledger, lease, other, number = drivers
    before = dump(other)
    for name, write in WRITES.items():
        with pytest.raises(StudyConflictError, match="got another one that took it over"):
            write(ledger, number)
        assert dump(other) == before, name
    assert lease.is_lost
    assert ledger.trial(number).number == number, "reading is no harm"


def test_a_launch_that_is_gone_is_an_older_copy_of_the_database(database):
    ledger = small_ledger.register(database)
    with Lease.acquire(database, "s"), Database.open(database.address) as other:
        with other.write() as session:
            session.execute(sa.delete(LaunchRow))
        with pytest.raises(DatabaseReplacedError, match="an older copy took the database's place"):
            ledger.enqueue([{"optimizer.lr": 0.02, "optimizer.name": "sgd"}])


def test_after_its_end_a_launch_fences_nothing(database):
    ledger = small_ledger.register(database)
    with Lease.acquire(database, "s"):
        pass
    small_ledger.ask(ledger)


# ---- the file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "replaced", "moved", "log deleted"])
def test_an_sqlite_file_that_is_not_the_opened_one_any_more(how, tmp_path):
    path, log = tmp_path / "s.db", tmp_path / "s.db-wal"
    with Database.open(str(path), create=True) as database:
        ledger = small_ledger.register(database)
        small_ledger.ask(ledger)
        if how == "deleted":
            for file in tmp_path.glob("s.db*"):
                file.unlink()
        elif how == "moved":
            path.rename(tmp_path / "elsewhere.db")
        elif how == "log deleted":
            log.unlink()
        else:
            shutil.copy(path, tmp_path / "backup.db")
            (tmp_path / "backup.db").replace(path)
        for act in (database.ping, lambda: ledger.note(0, node="x"), lambda: ledger.optuna_study.ask()):
            with pytest.raises(
                DatabaseReplacedError, match=r"must stay the file that was opened, got .*; keep sync"
            ):
                act()
    assert path.exists() == (how in ("replaced", "log deleted")), "no new one was made in its place"


def test_the_end_of_a_launch_whose_file_is_gone_is_not_called_an_outage(tmp_path, caplog):
    with Database.open(str(tmp_path / "s.db"), create=True) as database:
        small_ledger.register(database)
        lease = Lease.acquire(database, "s")
        for file in tmp_path.glob("s.db*"):
            file.unlink()
        lease.release()
    assert isinstance(lease.problem, DatabaseReplacedError)
    assert not caplog.records


# ---- locks ---------------------------------------------------------------------------------------------


def test_a_lock_is_waited_for_a_while_and_its_holder_is_named(database, database_url, monkeypatch):
    monkeypatch.setattr(guard, "BUSY_TIMEOUT_S", 0.2)
    ledger = small_ledger.register(database)
    if database.address.is_sqlite:
        import subprocess
        import sys

        text = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1],isolation_level=None); c.execute('BEGIN IMMEDIATE'); "
        holder = subprocess.Popen(
            [sys.executable, "-c", text + "print(1, flush=True); sys.stdin.read()", database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        holder.stdout.readline()
        try:
            with Database.open(database_url) as patient, pytest.raises(DatabaseAwayError) as caught:
                patient.ping()
        finally:
            holder.communicate()
        assert f"process {holder.pid}, python" in str(caught.value)
        return
    with Database.open(database_url) as other, other.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE trials, searcher_epochs"))
        for act in (lambda: small_ledger.ask(ledger), lambda: database.trials("s")):
            with pytest.raises(
                DatabaseAwayError,
                match=r"has locked its tables or rows; session \d+ of postgres.* has held locks",
            ):
                act()


def test_a_file_of_the_same_kind_elsewhere_is_no_matter(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "s.db")
    Database.open(str(tmp_path / "s.db"), create=True).close()
    with Database.open(str(tmp_path / "link.db"), create=True) as database:
        small_ledger.ask(small_ledger.register(database))
        database.ping()
    assert sqlite3.connect(tmp_path / "s.db").execute("SELECT count(*) FROM trials").fetchone() == (1,)


# ---- a database that was set back ----------------------------------------------------------------------


def test_what_a_server_that_lagged_has_lost_is_written_again_before_the_trial_ends(database):
    """Epochs 2 and 3, Optuna's values of them and the best checkpoint were lost while the trial ran."""
    ledger = small_ledger.register(database)
    number = small_ledger.ask(ledger)
    for epoch in (1, 2, 3):
        ledger.report(number, epoch, small_ledger.metrics(epoch / 10))
    ledger.checkpoint(number, small_ledger.checkpoint("best", epoch=3))
    with database.write() as session:
        session.execute(sa.text("DELETE FROM searcher_epochs WHERE epoch > 1"))
        session.execute(sa.text("DELETE FROM trial_intermediate_values WHERE step > 1"))
        session.execute(sa.text("DELETE FROM searcher_checkpoints"))
    ledger.report(number, 4, small_ledger.metrics(0.4))
    ledger.complete(number, 0.4, best_epoch=4, stop_reason="epochs")
    [trial] = database.trials("s")
    assert {epoch: metrics["object_dice"] for epoch, metrics in trial.epochs.items()} == {
        1: 0.1,
        2: 0.2,
        3: 0.3,
        4: 0.4,
    }
    assert ledger.trial(number).intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}
    assert trial.checkpoints["best"].epoch == 3
    assert (trial.state, trial.value) == ("COMPLETE", 0.4)


def test_a_trial_that_is_gone_or_another_one_ends_the_launch_in_one_line(database):
    ledger = small_ledger.register(database)
    number = small_ledger.ask(ledger)
    with database.write() as session:
        session.execute(
            sa.text("UPDATE trial_params SET param_value = 0.5 WHERE param_name = 'optimizer.lr'")
        )
    with pytest.raises(DatabaseReplacedError, match="trial 0 must have the parameters it began with"):
        ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs")
    with pytest.raises(DatabaseReplacedError, match="trial 7 must be in the database, but is gone"):
        ledger.report(7, 1, small_ledger.metrics(0.5))


def test_an_end_that_the_database_has_lost_is_noticed(database):
    ledger = small_ledger.register(database)
    number = small_ledger.ask(ledger)
    ledger.report(number, 1, small_ledger.metrics(0.5))
    ledger.complete(number, 0.5, best_epoch=1, stop_reason="epochs")
    assert ledger.num_done() == 1
    ledger.check_whole()
    with database.write() as session:
        session.execute(sa.text("UPDATE trials SET state = 'RUNNING'"))
    with pytest.raises(
        DatabaseReplacedError, match="the end of trial 0 must be in the database, but is gone"
    ):
        ledger.check_whole()


def test_a_launch_that_was_written_without_confirmation_is_this_drivers(database, monkeypatch):
    from searcher.ledger import takeover

    small_ledger.register(database)
    take_over = takeover.take_over

    def unconfirmed(*arguments):
        monkeypatch.setattr(takeover, "take_over", take_over)
        take_over(*arguments)
        raise DatabaseAwayError("--db x: is away: the connection was cut after the COMMIT")

    monkeypatch.setattr(takeover, "take_over", unconfirmed)
    with pytest.raises(DatabaseAwayError):
        Lease.acquire(database, "s")
    with Lease.acquire(database, "s"), pytest.raises(StudyConflictError, match="one driver at a time"):
        Lease.acquire(database, "s")
    with database.read() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(LaunchRow)) == 1


def test_a_file_that_may_only_be_read_is_read(tmp_path, monkeypatch):
    """Whoever may not write beside it: SQLite itself makes a log there, even to read."""
    from searcher.ledger import sqlite_file

    with Database.open(str(tmp_path / "s.db"), create=True) as database:
        small_ledger.ask(small_ledger.register(database))
    monkeypatch.setattr(sqlite_file, "_is_writable", lambda path: False)
    for file in (tmp_path, tmp_path / "s.db"):
        file.chmod(0o555)
    with Database.open(str(tmp_path / "s.db")) as database:
        assert database.study("s").counts == {"RUNNING": 1}
        with pytest.raises(DatabaseError, match="this user may only read it"):
            database.ping() or small_ledger.register(database).note(0, node="x")
    with pytest.raises(DatabaseError, match="must be writable, its folder too"):
        Database.probe(str(tmp_path / "s.db"))
    tmp_path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "is_refused"),
    [
        *[(name, True) for name in ("fuse.sshfs", "fuse.anything", "fuse", "nfs4", "cifs", "9p")],
        *[(name, False) for name in ("ext4", "fuseblk", "fuse.fuse-overlayfs", "overlay", "apfs")],
    ],
)
def test_file_systems(name, is_refused):
    from searcher.ledger import sqlite_file

    assert sqlite_file._is_remote(name) == is_refused
