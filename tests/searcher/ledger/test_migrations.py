"""Upgrading a database in place: from every revision, from a released version's own file, and all or nothing."""

import itertools
import json
import multiprocessing
import re
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from small_ledger import ask

from searcher.exceptions import DatabaseError
from searcher.ledger import engine as engines
from searcher.ledger import migrations
from searcher.ledger.database import Database
from searcher.ledger.lease import Lease
from searcher.ledger.migrations import upgrade
from searcher.ledger.study_ledger import StudyLedger
from searcher.ledger.tables import Base
from searcher.study.reader import parse_study

REVISIONS = [script.revision for script in ScriptDirectory(migrations.SCRIPTS).walk_revisions()]
HEAD = REVISIONS[0]
DUMP = Path(__file__).parent / "golden" / "0001.sql"
"""A database that the released version of revision 0001 wrote, with `launch --study tiny`."""


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """On an empty database."""
    engine = engines.connect(engines.parse_url(database_url), create=True)
    yield engine
    engine.dispose()


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A released version's file."""
    path = tmp_path / "released.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(DUMP.read_text())
    return path


def our_tables(engine: sa.Engine) -> list[sa.Table]:
    """Return our tables as they are in the database, each after those that it refers to."""
    found = sa.MetaData()
    found.reflect(engine, only=lambda name, _: name.startswith("searcher_"))
    return found.sorted_tables


def content(engine: sa.Engine) -> dict[str, list[dict[str, object]]]:
    """Return every row of our tables."""
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for table in our_tables(engine)
        }


def schema(engine: sa.Engine) -> dict[str, object]:
    """Return columns, keys and indices of our tables."""
    return {
        table.name: (
            [(column.name, str(column.type), column.nullable) for column in table.columns],
            sorted((type(rule).__name__, str(rule.name)) for rule in table.constraints),
            sorted(index.name for index in table.indexes),
        )
        for table in our_tables(engine)
    }


def example(column: sa.Column) -> object:
    """Return a value for a column, other than any default."""
    if column.primary_key or column.foreign_keys:
        return 1
    if isinstance(column.type, sa.JSON):
        return {"key": [1, None]}
    kind = column.type.python_type
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901)
    return {int: 7, float: 0.1, str: f"a {column.name}"[:10], datetime: moment}[kind]


def difference_to_the_models(engine: sa.Engine) -> list[object]:
    options = {
        "version_table": migrations.VERSION_TABLE,
        "include_name": lambda name, kind, _: kind != "table" or name in Base.metadata.tables,
        "compare_type": True,
        "compare_server_default": True,
    }
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, Base.metadata)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_of_any_revision_is_upgraded_in_place_and_keeps_every_row(engine, database_url, revision):
    upgrade(engine, revision)
    tables = [table for table in our_tables(engine) if table.name != migrations.VERSION_TABLE]
    with engine.execution_options(writes=True).begin() as connection:
        for table in tables:
            row = {column.name: example(column) for column in table.columns}
            connection.execute(table.insert().values(row))
    before = content(engine)
    assert before.pop(migrations.VERSION_TABLE) == [{"version_num": revision}]
    assert before
    assert all(len(rows) == 1 for rows in before.values())

    with Database.open(database_url, create=True) as database:
        after = content(database.engine)
        assert after[migrations.VERSION_TABLE] == [{"version_num": HEAD}]
        for name, [row] in before.items():
            [kept] = after[name]
            assert {key: kept[key] for key in row} == row
        assert difference_to_the_models(database.engine) == []


def test_opening_again_changes_nothing_and_waits_for_no_lock(database, database_url):
    before = content(database.engine)
    with database.write() as session:
        session.execute(sa.text("UPDATE searcher_studies SET budget = 1"))
        with Database.open(database_url, create=True) as again:
            assert content(again.engine) == before


def test_a_released_versions_database_is_upgraded_and_goes_on(released):
    with closing(sqlite3.connect(released)) as connection:
        connection.row_factory = sqlite3.Row
        [study_row] = connection.execute("SELECT * FROM searcher_studies")
        epochs = connection.execute("SELECT trial, epoch, metrics FROM searcher_epochs").fetchall()
        checkpoints = connection.execute("SELECT * FROM searcher_checkpoints").fetchall()
        [launch] = connection.execute("SELECT * FROM searcher_launches")
        values = connection.execute(
            "SELECT number, value FROM trials JOIN trial_values USING (trial_id) ORDER BY number"
        ).fetchall()
        states = connection.execute("SELECT state FROM trials ORDER BY number").fetchall()
        drawn = connection.execute("SELECT count(*) FROM trial_params").fetchone()[0]

    with Database.open(str(released), create=True) as database:
        assert difference_to_the_models(database.engine) == []
        assert database.study_names() == [study_row["name"]] == ["tiny"]
        study, trials = database.study("tiny"), database.trials("tiny")
        for field in ("objective", "budget", "data_source", "data_fingerprint", "storage_root", "spec_text"):
            assert getattr(study, field) == study_row[field]
        assert study.created_at.isoformat(sep=" ") == study_row["created_at"]
        assert (study.last_launch.pid, study.last_launch.outcome) == (launch["pid"], launch["outcome"])
        assert [trial.state for trial in trials] == [row["state"] for row in states]
        assert [(trial.number, trial.value) for trial in trials] == [tuple(row) for row in values]
        assert sum(len(trial.params) for trial in trials) == drawn > 0
        assert {(t.number, epoch): m for t in trials for epoch, m in t.epochs.items()} == {
            (row["trial"], row["epoch"]): json.loads(row["metrics"]) for row in epochs
        }
        kept = {(t.number, c.kind): c for t in trials for c in t.checkpoints.values()}
        assert len(kept) == len(checkpoints)
        for row in checkpoints:
            record = kept[row["trial"], row["kind"]]
            for field in ("epoch", "uri", "sha256", "num_bytes", "value"):
                assert getattr(record, field) == row[field]
            assert (record.problem, record.is_removed) == (None, False)

        spec = parse_study(study.spec_text, source="tiny.toml")
        with Lease.acquire(database, "tiny"):
            ledger = StudyLedger(database, spec)
            number = ask(ledger)
            ledger.report(number, 1, {spec.objective.name: 0.5})
        assert number == len(trials)
        assert database.trials("tiny")[number].epochs == {1: {spec.objective.name: 0.5}}
    with Database.open(str(released)) as database:
        assert len(database.trials("tiny")) == len(trials) + 1


# ---- all or nothing ------------------------------------------------------------------------------------------

UPGRADES_THAT_DO_NOT_END = {
    "fails": "raise RuntimeError('half-way')",
    "is killed": "os.kill(os.getpid(), 9)",
}
HALF_WAY = """
import os
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", {head!r}

def upgrade():
    op.create_table("searcher_half", sa.Column("id", sa.Integer, primary_key=True))
    op.add_column("searcher_studies", sa.Column("half", sa.Text))
    op.execute("UPDATE searcher_studies SET budget = 99")
    with op.batch_alter_table("searcher_epochs") as batch:
        batch.alter_column("epoch", new_column_name="half")
    {end}
"""


def _open(url: str, scripts: Path) -> None:
    migrations.SCRIPTS = scripts
    Database.open(url, create=True)


@pytest.mark.parametrize(
    ("revision", "end"),
    [  # both ends from the oldest and from the newest, which has no other revision to do before
        *itertools.product((REVISIONS[0], REVISIONS[-1]), UPGRADES_THAT_DO_NOT_END),
        *zip(REVISIONS[1:-1], itertools.cycle(UPGRADES_THAT_DO_NOT_END), strict=False),
    ],
)
def test_an_upgrade_that_ends_half_way_leaves_the_database_as_it_was(
    engine, database_url, revision, end, tmp_path
):
    """Also where it did several revisions before the one that does not end."""
    upgrade(engine, revision)
    columns = {"name": "s", "objective": "o", "budget": 4, "spec_text": "", "identity": {}}
    columns |= {
        "data_fingerprint": "",
        "data_source": "",
        "storage_root": "",
        "created_at": datetime(2026, 1, 2),
    }
    with engine.execution_options(writes=True).begin() as connection:
        [studies] = [table for table in our_tables(engine) if table.name == "searcher_studies"]
        connection.execute(studies.insert().values(columns))
    scripts = tmp_path / "scripts"
    shutil.copytree(migrations.SCRIPTS, scripts)
    (scripts / "versions" / "9999_half_way.py").write_text(
        HALF_WAY.format(head=HEAD, end=UPGRADES_THAT_DO_NOT_END[end])
    )
    before, schema_before = content(engine), schema(engine)

    opening = multiprocessing.get_context("forkserver").Process(target=_open, args=(database_url, scripts))
    opening.start()
    opening.join(120)
    assert opening.exitcode == (-signal.SIGKILL if end == "is killed" else 1)

    assert content(engine) == before
    assert schema(engine) == schema_before
    with Database.open(database_url, create=True) as database:  # and this version goes on
        assert database.study_row("s").budget == 4


# ---- other versions' databases --------------------------------------------------------------------------------


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_reading_an_older_database_says_how_to_upgrade_it_and_changes_nothing(engine, database_url, revision):
    upgrade(engine, revision)
    before = content(engine)
    with pytest.raises(DatabaseError) as caught:
        Database.open(database_url)
    assert str(caught.value) == (
        f"--db {engines.parse_url(database_url)}: must be of this version's revision {HEAD}, got "
        f"{revision}; `searcher doctor --fix` or the next launch upgrades it"
    )
    assert "s3cret-pw" not in str(caught.value)
    assert content(engine) == before


@pytest.mark.parametrize("create", [False, True])
def test_a_newer_versions_database_is_refused_and_left_alone(engine, database_url, create):
    upgrade(engine)
    with engine.execution_options(writes=True).begin() as connection:
        connection.execute(sa.text("UPDATE searcher_alembic_version SET version_num = 'x7'"))
    before = content(engine)
    with pytest.raises(DatabaseError) as caught:
        Database.open(database_url, create=create)
    assert str(caught.value) == (
        f"--db {engines.parse_url(database_url)}: must be of a revision that this version knows, "
        f"{HEAD} or older, got x7 of a newer version; install a newer searcher"
    )
    assert content(engine) == before
    assert not sa.inspect(engine).has_table("studies"), "Optuna's tables"


@pytest.mark.parametrize("create", [False, True])
def test_another_optunas_tables_are_refused_in_one_line(database, database_url, create):
    with database.write() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = 'v9.9.9'"))
    with pytest.raises(DatabaseError) as caught, Database.open(database_url, create=create) as opened:
        opened.optuna_storage  # noqa: B018  which is opened when it is needed
    message = str(caught.value)
    assert re.search(
        r"must hold tables of this Optuna: .*is no longer compatible with the table schema", message
    )
    assert "\n" not in message
    assert "s3cret-pw" not in message
