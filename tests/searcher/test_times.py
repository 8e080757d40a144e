"""Moments in UTC, in JSON and in a reader's zone; durations across the change to winter time."""

import time
from datetime import UTC, datetime

import pytest

from searcher.ledger.records import TrialRecord
from searcher.times import in_utc, local_text, utc_text


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-10-25 00:30 UTC"),
        ("Asia/Tokyo", "2026-10-25 09:30 JST"),
        ("Europe/Berlin", "2026-10-25 02:30 CEST"),
    ],
)
def test_a_moment_is_shown_in_the_readers_zone_which_is_said(zone, shown, monkeypatch):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        stored = datetime(2026, 10, 25, 0, 30)
        assert local_text(stored) == shown
        assert utc_text(stored) == utc_text(in_utc(stored)) == "2026-10-25T00:30:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_night_with_one_hour_twice_is_as_long_as_it_was():
    """00:30 to 01:30 UTC is 02:30 to 02:30 on clocks in Berlin."""
    trial = TrialRecord(
        number=0,
        state="COMPLETE",
        params={},
        value=0.5,
        values=(0.5,),
        epochs={},
        notes={},
        started_at=datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
        ended_at=datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
    )
    assert trial.duration_s == 3600
    assert trial.to_dict()["started_at"] == "2026-10-25T00:30:00Z"
