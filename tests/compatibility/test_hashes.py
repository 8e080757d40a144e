"""An upgrade renames nothing: studies, trials and data sets keep the digests that databases and checkpoints know."""

import json
from pathlib import Path
from typing import Any

import pytest
import record_hashes

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded" / "hashes.json").read_text())


@pytest.mark.parametrize("what", RECORDED)
def test_every_digest_is_the_recorded_one(what: str):
    """A shipped study that is changed on purpose is recorded again, and the commit says why.

    A new key of the configuration is left out of digests where it has the value that says what was done before.
    """
    now = getattr(record_hashes, what)()
    assert {name: now.get(name) for name in RECORDED[what]} == RECORDED[what]
