"""The errors of the data pipeline.

DataError
├── ChangedDataError     files that changed while they were read: reading them again may help
└── DamagedStoreError    a store whose bytes are no longer those that were written
"""

__all__ = ["ChangedDataError", "DamagedStoreError", "DataError"]


class DataError(ValueError):
    """Raised for images or annotations that cannot be used.

    The message names the file or setting, the rule, the value found and the remedy.

    A folder with several problems raises one error with one line per problem.

    Args:
        problems: One line per problem.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ChangedDataError(DataError):
    """A file of a data set changed since its fingerprint was taken, or while it was read."""


class DamagedStoreError(DataError):
    """A store's files hold other bytes than were written."""
