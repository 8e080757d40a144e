"""The errors of the data pipeline.

DataError
├── ChangedDataError     files that changed while they were read: reading them again may help
└── DamagedStoreError    a store whose bytes are no longer those that were written
"""

__all__ = ["ChangedDataError", "DamagedStoreError", "DataError"]


class DataError(ValueError):
    """Images or annotations that cannot be used. The message says where, the rule, the value, the remedy.

    A folder with several problems raises one error with one line per problem.

    Args:
        problems: One line per problem.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ChangedDataError(DataError):
    """A data set changed between two readings of it, so that what was decoded is not what was fingerprinted."""


class DamagedStoreError(DataError):
    """A store holds other bytes than were written into it."""
