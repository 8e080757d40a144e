"""What is known of revisions without asking Alembic, which takes a third of a second to import, is what it says."""

from pathlib import Path

from alembic.script import ScriptDirectory
from optuna.storages import _rdb

from searcher.ledger import migrations
from searcher.ledger.optuna_tables import _newest_revision


def test_our_revisions_are_named_in_their_order():
    scripts = ScriptDirectory(str(migrations.SCRIPTS)).walk_revisions()
    assert [script.revision for script in scripts] == migrations._revisions()[::-1]


def test_the_newest_of_optunas_is_the_one_that_its_storage_asks_for():
    scripts = ScriptDirectory(str(Path(_rdb.__file__).parent / "alembic"))
    assert _newest_revision() == scripts.get_current_head()
