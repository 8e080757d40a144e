"""The lease: one driver per study, whatever clocks, processes and the database do."""

import logging
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from small_ledger import registration

from searcher.exceptions import DatabaseAwayError, StudyConflictError
from searcher.ledger import engine as engines
from searcher.ledger import lease as leases
from searcher.ledger import liveness, takeover
from searcher.ledger.clock import database_now
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.liveness import own_process
from searcher.ledger.migrations import upgrade
from searcher.ledger.tables import LaunchRow, utc_now

processes = multiprocessing.get_context("forkserver")

NUM_DRIVERS = 4
NUM_ROUNDS = 2

REFUSED = (
    r"must have one driver at a time, got a second one; process \d+ on .+ has run it for .*\d+:\d\d:\d\d; "
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew every 0.2 s, watch for 0.6 s."""
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.2)
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(takeover, "WATCH_S", 0.6)
    monkeypatch.setattr(leases, "_TRY_AGAIN_AFTER_S", 0.02)


@pytest.fixture
def studied(database: Database) -> Database:
    """A database with the study `s`."""
    registration().register(database)
    return database


def change(database: Database, **values: object) -> None:
    """Write into the launch."""
    with database.write() as session:
        session.execute(sa.update(LaunchRow).values(**values))


def open_launch(database: Database, *, age_s: float = 0.0, **values: object) -> None:
    """Write down a launch that has not ended, renewed a while ago; another host's, unless told otherwise."""
    values = {"host": "elsewhere", "pid": 4242, "process_started": 1.0, "process_space": "elsewhere"} | values
    study_id = database.study_row("s").id
    with database.write() as session:
        renewed_at = session.scalar(sa.select(database_now())) - timedelta(seconds=age_s)
        session.add(
            LaunchRow(
                study_id=study_id,
                started_at=renewed_at - timedelta(hours=2),
                renewed_at=renewed_at,
                versions={},
                **values,
            )
        )


@contextmanager
def renewing_elsewhere(database: Database, *, clock_off_s: float):
    """A driver on another host whose renewals bear a time by which the clock is off."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(0.1):
            with database.write() as session:
                now = session.scalar(sa.select(database_now()))
                session.execute(
                    sa.update(LaunchRow)
                    .where(LaunchRow.ended_at.is_(None))
                    .values(renewed_at=now + timedelta(seconds=clock_off_s))
                )

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def outcomes(database: Database) -> list[str | None]:
    with database.read() as session:
        return list(session.scalars(sa.select(LaunchRow.outcome).order_by(LaunchRow.id)))


# ---- one driver --------------------------------------------------------------------------------------------


def test_the_second_driver_is_refused_with_host_process_age_and_remedy_in_one_line(studied):
    with Lease.acquire(studied, "s") as first:
        for refuse in (Lease.acquire, Lease.refuse_if_held):
            with pytest.raises(StudyConflictError, match=REFUSED) as caught:
                refuse(studied, "s")
            message = str(caught.value)
            assert f"process {os.getpid()} on {socket.gethostname()}" in message
            assert message.endswith("stop it with `searcher stop --study s`")
            assert "\n" not in message
        first.ends_as("finished")
    launch = studied.study("s").last_launch
    assert (launch.outcome, launch.ended_at is not None) == ("finished", True)
    Lease.refuse_if_held(studied, "s")
    Lease.acquire(studied, "s").release()
    assert studied.study("s").last_launch.outcome == "failed", "an end that nobody vouched for"


def test_the_age_is_told_by_the_databases_clock(studied):
    open_launch(studied, age_s=10)
    with pytest.raises(StudyConflictError, match=r"process 4242 on elsewhere has run it for 2:00:1\d; wait"):
        Lease.acquire(studied, "s")


def test_the_databases_clock_is_utc_and_goes_in_milliseconds_even_within_a_transaction(database):
    with database.read() as session:
        first = session.scalar(sa.select(database_now()))
        assert abs(first - utc_now()) < timedelta(seconds=30)
        for _ in range(1000):
            time.sleep(0.002)
            later = session.scalar(sa.select(database_now()))
            if later != first:
                break
    assert timedelta(0) < later - first < timedelta(seconds=1)


def test_what_the_databases_clock_wrote_is_found_again_by_comparing(studied):
    """Taking over compares `renewed_at` with what was read before; every microsecond must come back."""
    lease = Lease.acquire(studied, "s")
    with studied.read() as session:
        renewed_at = session.scalar(sa.select(LaunchRow.renewed_at))
        same = sa.select(LaunchRow.id).where(LaunchRow.renewed_at == renewed_at)
        assert session.scalar(same) is not None
    lease.release()


# ---- drivers in the same instant --------------------------------------------------------------------------------


def _begin_rounds(urls: list[str], together, results) -> None:
    """Open each database, register the study and take the lease, all processes at the same moment."""
    for url in urls:
        together.wait()
        try:
            with Database.open(url, create=True) as database:
                registration().register(database)
                lease = Lease.acquire(database, "s")
                results.put("won")
                together.wait()
                lease.release()
        except BaseException as error:
            results.put(f"{type(error).__name__}: {error}")
            together.wait()


@pytest.fixture
def databases(database_url: str) -> list[str]:
    """URLs of several databases that do not exist yet, or are empty."""
    if "://" not in database_url:
        return [f"{database_url}{number}" for number in range(NUM_ROUNDS)]
    urls = [sa.make_url(database_url)]
    engine = sa.create_engine(urls[0].set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for number in range(1, NUM_ROUNDS):
            urls.append(urls[0].set(database=f"{urls[0].database}_{number}"))
            connection.execute(sa.text(f"DROP DATABASE IF EXISTS {urls[-1].database}"))
            connection.execute(sa.text(f"CREATE DATABASE {urls[-1].database}"))
    engine.dispose()
    return [url.render_as_string(hide_password=False) for url in urls]


@pytest.mark.parametrize("state", ["new", "of the first revision"])
def test_of_drivers_that_open_one_database_in_the_same_instant_exactly_one_wins(databases, state):
    """Making the tables, Optuna's too, upgrading them, and registering the study included."""
    if state != "new":
        for url in databases:
            engine = engines.connect(engines.parse_url(url), create=True)
            upgrade(engine, "0001")
            engine.dispose()
    together, results = processes.Barrier(NUM_DRIVERS), processes.Queue()
    drivers = [
        processes.Process(target=_begin_rounds, args=(databases, together, results), daemon=True)
        for _ in range(NUM_DRIVERS)
    ]
    for driver in drivers:
        driver.start()
    try:
        for _ in databases:
            *refusals, winner = sorted(results.get(timeout=60) for _ in drivers)
            assert winner == "won"
            for refusal in refusals:
                assert re.fullmatch(rf"StudyConflictError: --study s: {REFUSED}[^\n]*", refusal)
        for driver in drivers:
            driver.join(60)
            assert driver.exitcode == 0
    finally:
        for driver in drivers:
            driver.kill()


# ---- drivers on this host: the process is looked at -------------------------------------------------------------


def _drive(url: str, connection) -> None:
    with Database.open(url) as database:
        Lease.acquire(database, "s")
        connection.send(os.getpid())
        signal.pause()


@pytest.fixture
def driver(studied, database_url):
    """A driver in a process of its own, which holds the lease."""
    here, there = processes.Pipe()
    process = processes.Process(target=_drive, args=(database_url, there))
    process.start()
    assert here.poll(60)
    yield process
    process.kill()
    process.join()


@pytest.mark.parametrize("age_s", [-86_400, 86_400])
def test_a_living_driver_on_this_host_keeps_its_study_whatever_its_lease_and_the_clock_say(
    studied, driver, age_s
):
    os.kill(driver.pid, signal.SIGSTOP)  # it does not renew, either
    try:
        with studied.read() as session:
            now = session.scalar(sa.select(database_now()))
        change(studied, renewed_at=now - timedelta(seconds=age_s), started_at=now)
        with pytest.raises(StudyConflictError, match=rf"process {driver.pid} on .* has run it for 0:00:0"):
            Lease.acquire(studied, "s")
        assert studied.study("s").last_launch.outcome is None
    finally:
        os.kill(driver.pid, signal.SIGCONT)


def test_a_killed_drivers_study_is_free_at_once(studied, driver, monkeypatch):
    monkeypatch.setattr(takeover, "WATCH_S", 3600.0)
    driver.kill()
    driver.join()
    assert studied.study("s").last_launch.outcome == "lost"
    lease = Lease.acquire(studied, "s")
    assert outcomes(studied) == ["lost", None]
    lease.release()
    assert outcomes(studied) == ["lost", "failed"]


def test_a_driver_that_is_a_zombie_drives_nothing(studied):
    """Killed, and its parent has not looked yet."""
    with subprocess.Popen(["sleep", "600"]) as process:
        started, is_zombie = liveness._start_and_state(process.pid)
        assert not is_zombie
        open_launch(studied, pid=process.pid, process_space=own_process()[0], process_started=started)
        with pytest.raises(StudyConflictError):
            Lease.acquire(studied, "s")
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        Lease.acquire(studied, "s").release()
    assert outcomes(studied) == ["lost", "failed"]


def test_a_number_that_passed_to_another_process_is_not_the_driver(studied):
    space, started = own_process()
    open_launch(studied, pid=os.getpid(), process_space=space, process_started=started - 0.01)
    assert studied.study("s").last_launch.outcome == "lost"
    Lease.acquire(studied, "s").release()


def test_a_process_start_is_counted_from_the_boot_so_that_no_clock_moves_it():
    _, started = own_process()
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < started <= uptime_s
    assert abs(uptime_s - started - (time.time() - psutil.Process().create_time())) < 2


def test_a_process_of_any_name_is_understood(tmp_path):
    """The name stands in the middle of /proc/PID/stat and may hold anything."""
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "import time; time.sleep(600)"]) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "a) R 1 (b\n":
            time.sleep(0.01)
        start, is_zombie = liveness._start_and_state(process.pid)
        assert abs(start - own_process()[1]) < 3600
        assert not is_zombie
        process.kill()


def test_without_proc_the_process_is_looked_at_in_another_way(studied, driver, monkeypatch, tmp_path):
    monkeypatch.setattr(liveness, "_PROC", tmp_path)
    space, started = own_process()
    assert space == socket.gethostname()
    assert started == psutil.Process().create_time()
    theirs = psutil.Process(driver.pid).create_time()
    change(studied, process_space=space, process_started=theirs)
    with pytest.raises(StudyConflictError):
        Lease.acquire(studied, "s")
    driver.kill()
    driver.join()
    Lease.acquire(studied, "s").release()


def test_a_process_that_hides_is_told_by_its_lease(studied, driver, monkeypatch, tmp_path):
    """/proc may be mounted so that other people's processes are not in it."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text(Path("/proc/sys/kernel/random/boot_id").read_text())
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to(Path("/proc/self/ns/pid").readlink())
    space, _ = own_process()
    monkeypatch.setattr(liveness, "_PROC", tmp_path)
    assert liveness._process_space() == space
    with pytest.raises(StudyConflictError):
        Lease.acquire(studied, "s")
    with studied.read() as session:
        launch = session.scalar(sa.select(LaunchRow))
    day_later = launch.renewed_at + timedelta(days=1)
    assert liveness.driver_state(launch, day_later) == "uncertain"
    driver.kill()
    driver.join()
    assert liveness.driver_state(launch, launch.renewed_at) == "gone"


@pytest.mark.parametrize(("host", "state"), [(None, "alive"), ("elsewhere", "uncertain")])
def test_a_launch_of_the_first_release_is_judged_as_it_was(host, state):
    """It has the start of its process since the epoch, and no process space."""
    launch = LaunchRow(
        host=host or socket.gethostname(),
        pid=os.getpid(),
        process_started=psutil.Process().create_time(),
        renewed_at=utc_now() - timedelta(days=1),
    )
    assert liveness.driver_state(launch, utc_now()) == state
    launch.process_started -= 60
    assert liveness.driver_state(launch, utc_now()) == ("gone" if host is None else state)


# ---- drivers elsewhere: only the lease tells -----------------------------------------------------------------


def test_a_driver_elsewhere_that_renewed_lately_is_alive(studied):
    open_launch(studied, age_s=80)
    with pytest.raises(StudyConflictError, match=REFUSED):
        Lease.acquire(studied, "s")
    assert studied.study("s").last_launch.outcome is None


@pytest.mark.parametrize("age_s", [100, 86_400, -3600])
def test_a_driver_elsewhere_that_is_silent_while_it_is_watched_is_gone(studied, age_s, caplog):
    open_launch(studied, age_s=age_s)
    lease = Lease.acquire(studied, "s")
    assert "process 4242 on elsewhere has not renewed its lease; watching" in caplog.text
    assert outcomes(studied) == ["lost", None]
    lease.release()


@pytest.mark.parametrize("clock_off_s", [-86_400, -100, 3600])
def test_a_driver_elsewhere_that_renews_keeps_its_study_though_the_clock_jumped(studied, clock_off_s):
    open_launch(studied, age_s=-clock_off_s)
    driver = renewing_elsewhere(studied, clock_off_s=clock_off_s)
    with driver, pytest.raises(StudyConflictError, match=REFUSED):
        Lease.acquire(studied, "s")
    assert outcomes(studied) == [None]


def test_showing_a_study_does_not_wait_to_see_whether_a_silent_driver_lives(studied, monkeypatch):
    monkeypatch.setattr(takeover, "WATCH_S", 3600.0)
    open_launch(studied, age_s=100)
    assert studied.study("s").last_launch.outcome == "lost"
    change(studied, renewed_at=utc_now() + timedelta(hours=1))
    assert studied.study("s").last_launch.outcome is None, "a clock that jumped tells nothing"


def test_a_driver_that_renews_after_it_was_watched_keeps_its_study(studied, monkeypatch):
    """Between the watching and the taking over."""
    open_launch(studied, age_s=100)
    take_over, taken = takeover.take_over, []

    def renewed_at_the_last_moment(database, study_id, gone, job):
        if not taken:
            change(database, renewed_at=utc_now())
        taken.append(take_over(database, study_id, gone, job))
        return taken[-1]

    monkeypatch.setattr(takeover, "take_over", renewed_at_the_last_moment)
    with pytest.raises(StudyConflictError, match="process 4242 on elsewhere"):
        Lease.acquire(studied, "s")
    assert taken == [None]
    assert outcomes(studied) == [None]


def test_a_driver_that_ends_while_it_is_watched_leaves_its_study(studied, monkeypatch):
    monkeypatch.setattr(takeover, "WATCH_S", 30.0)
    open_launch(studied, age_s=100)
    threading.Timer(0.5, change, (studied,), {"ended_at": utc_now(), "outcome": "finished"}).start()
    lease = Lease.acquire(studied, "s")
    assert outcomes(studied) == ["finished", None]
    lease.release()


def test_nobody_waits_for_a_lock_that_a_watcher_holds(studied, monkeypatch):
    """Watching must not keep the database's write lock: the driver that is watched could not renew."""
    monkeypatch.setattr(takeover, "WATCH_S", 2.0)
    open_launch(studied, age_s=100)
    watcher = threading.Thread(target=lambda: Lease.acquire(studied, "s").release())
    watcher.start()
    while watcher.is_alive():
        # Once the lease is released, writes of this connection are refused.
        with suppress(StudyConflictError), studied.write() as session:
            session.execute(sa.text("UPDATE searcher_studies SET budget = budget + 1"))
        time.sleep(0.02)
    assert studied.study("s").budget > 10


# ---- the lease's thread --------------------------------------------------------------------------------------


def test_a_held_lease_is_renewed(studied):
    with Lease.acquire(studied, "s"):
        first = studied.study("s").last_launch.renewed_at
        while studied.study("s").last_launch.renewed_at == first:
            time.sleep(0.05)


def test_a_request_to_stop_is_heard_once(studied):
    asked, calls = threading.Event(), []
    with Lease.acquire(studied, "s") as lease:
        lease.on_stop(lambda: (calls.append(threading.current_thread().name), asked.set()))
        time.sleep(0.1)
        assert not asked.is_set()
        change(studied, stop_requested_at=utc_now())
        assert asked.wait(10)
        time.sleep(0.1)
    assert calls == ["lease"]


def test_a_request_to_stop_that_came_before_anyone_listened_is_heard(studied):
    asked = threading.Event()
    with Lease.acquire(studied, "s") as lease:
        change(studied, stop_requested_at=utc_now())
        time.sleep(0.1)
        lease.on_stop(asked.set)
        assert asked.wait(10)


def test_a_driver_whose_study_was_taken_over_hears_of_it_and_leaves_the_launch_alone(studied):
    taken = threading.Event()
    with Lease.acquire(studied, "s") as lease:
        lease.on_lost(taken.set)
        change(studied, ended_at=utc_now(), outcome="lost")
        assert taken.wait(10)
        assert lease.is_lost
        lease.ends_as("finished")
    assert studied.study("s").last_launch.outcome == "lost"


def test_whoever_was_away_can_ask_whether_the_study_is_still_its_own(studied):
    with Lease.acquire(studied, "s") as lease:
        lease.check()
        change(studied, ended_at=utc_now(), outcome="lost")
        with pytest.raises(
            StudyConflictError, match="--study s: must have one driver at a time, got another one"
        ):
            lease.check()
        assert lease.is_lost


def test_the_lease_outlives_an_outage_which_is_logged_once(studied, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    asked, write, read = threading.Event(), Database.write, Database.read
    with Lease.acquire(studied, "s") as lease:
        lease.on_stop(asked.set)

        def away(database):
            raise DatabaseAwayError("--db x: is away")

        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", away)
            patch.setattr(Database, "read", away)
            time.sleep(0.5)
        assert (Database.write, Database.read) == (write, read)
        change(studied, stop_requested_at=utc_now())
        assert asked.wait(10)
    told = [record.message for record in caplog.records if "--db x: is away" in record.message]
    assert told == ["could not renew the lease on s, trying again: --db x: is away"]
    assert "renewing the lease on s again" in caplog.text


def test_an_error_in_what_a_stop_sets_off_does_not_end_the_lease(studied, caplog):
    def fail() -> None:
        raise ValueError("of the listener")

    with Lease.acquire(studied, "s") as lease:
        lease.on_stop(fail)
        change(studied, stop_requested_at=utc_now())
        while "of the listener" not in caplog.text:
            time.sleep(0.02)
        first = studied.study("s").last_launch.renewed_at
        while studied.study("s").last_launch.renewed_at == first:
            time.sleep(0.02)


def test_an_end_that_cannot_be_written_is_given_up_after_a_while_with_a_word(studied, monkeypatch, caplog):
    lease = Lease.acquire(studied, "s")

    def away(database):
        raise DatabaseAwayError("--db x: is away")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", away)
        lease.release(give_up_after_s=0.3)
        assert "could not write down the end of the launch of s" in caplog.text
        lease._thread.join(10)
        assert not lease._thread.is_alive()
    assert outcomes(studied) == [None]


def test_an_end_is_written_when_the_database_is_back_in_time(studied, monkeypatch):
    lease = Lease.acquire(studied, "s")
    write, calls = Database.write, []

    def away_at_first(database):
        calls.append(1)
        if len(calls) < 5:
            raise DatabaseAwayError("--db x: is away")
        return write(database)

    monkeypatch.setattr(Database, "write", away_at_first)
    lease.ends_as("finished")
    lease.release()
    assert outcomes(studied) == ["finished"]


# ---- how long launches took ----------------------------------------------------------------------------------


def test_the_launches_before_add_up_and_a_lost_one_ends_with_its_last_sign_of_life(studied):
    """One began two hours before its last sign, a day ago; the next took no time worth mentioning."""
    open_launch(studied, age_s=86_400)
    for _ in range(2):
        lease = Lease.acquire(studied, "s")
        assert studied.launched_before_s("s") == pytest.approx(7200, abs=60)
        lease.ends_as("finished")
        lease.release()
