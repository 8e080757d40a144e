"""Faults that a study can have although no program failed: find them, report each in one line, fix them.

    drivers        launches without an end, trials that RUN without a driver
    checkpoints    recorded bytes that are not on disk
    drift          a study file that the database would refuse now
    lineage        a parent study, or Optuna's half of a study, that was deleted
    folders        trial folders that no database row knows, files that a writer left half-written
    stores         data sets that were decoded by half, or whose decoded bytes are damaged

Nothing that holds results is ever removed. What belongs to a study is fixed under its lease, as the next launch would.
"""

from searcher.ledger.doctor.examination import examine, open_database
from searcher.ledger.doctor.finding import Finding

__all__ = ["Finding", "examine", "open_database"]
