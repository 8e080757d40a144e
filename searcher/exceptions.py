"""Every error that searcher raises for something outside itself.

    SearcherError                       exit code 1
    ├── UserError                       bad input: where, rule, value, remedy; exit code 2
    │   ├── StudyFileError              a study file, all its problems at once
    │   ├── TextFileError               a file of text or JSON that cannot be read
    │   ├── UnknownStudyError           no such study, shipped or in the database
    │   ├── DatabaseError               a database that cannot be opened or used
    │   │   ├── DatabaseAwayError       one that may come back: out of reach, or locked
    │   │   └── DatabaseReplacedError   one that is not the one any more that was opened
    │   ├── StorageError                an object store that cannot be reached or used
    │   ├── ClusterAwayError            a Ray cluster that does not answer now, and may again
    │   └── StudyConflictError          what is asked contradicts what the study already is, or who runs it
    ├── SearchBrokeOffError             a search that could not go on
    ├── OutputError                     standard output cannot be written
    │   └── OutputClosedError           its reader has gone; exit code 0
    └── TrialError                      one trial cannot go on; its reason is recorded, the study goes on
        ├── NonFiniteLossError          a loss became NaN or infinite
        ├── CheckpointError             a checkpoint that is missing, damaged or of another configuration
        └── NodeError                   the node cannot run trials of this study; another one may

Unusable images and annotations raise `searcher.data_pipeline.exceptions.DataError`, of the same form as `UserError`:
the data pipeline does not import searcher. The command line turns both into one line and exit code 2.
"""

__all__ = [
    "CheckpointError",
    "ClusterAwayError",
    "DatabaseAwayError",
    "DatabaseError",
    "DatabaseReplacedError",
    "NodeError",
    "NonFiniteLossError",
    "OutputClosedError",
    "OutputError",
    "SearchBrokeOffError",
    "SearcherError",
    "StorageError",
    "StudyConflictError",
    "StudyFileError",
    "TextFileError",
    "TrialError",
    "UnknownStudyError",
    "UserError",
]


class SearcherError(Exception):
    """Base of all errors of searcher."""


class UserError(SearcherError):
    """Bad input. The message is one line per problem: where, the rule, the value, the remedy.

    Args:
        problems: The lines. A line break inside one, for example in a file's name, does not start another problem.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = [*problems]


class StudyFileError(UserError):
    """A study file is not valid.

    Args:
        problems: One line per problem, each with file, key, rule and value.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(*problems)

    def __reduce__(self) -> tuple[type["StudyFileError"], tuple[list[str]]]:
        return StudyFileError, (self.problems,)


class TextFileError(UserError):
    """A text or JSON file cannot be read. The message does not show its content."""


class UnknownStudyError(UserError):
    """There is no study of that name: neither shipped, nor a file, nor in the database."""


class DatabaseError(UserError):
    """A database cannot be opened, reached or understood. The message shows no password."""


class DatabaseAwayError(DatabaseError):
    """A database cannot be reached, is locked or is full now, and may be available again later."""


class DatabaseReplacedError(DatabaseError):
    """A database was deleted, replaced or reset while it was in use, so that further writes would be lost."""


class StorageError(UserError):
    """An object store cannot be reached or used. The message shows no key."""

    is_final = True
    """Whether trying again is of no use."""


class ClusterAwayError(UserError):
    """The dashboard of a Ray cluster does not respond now, and may respond again later."""


class StudyConflictError(UserError):
    """A request contradicts the study in the database, or another driver runs the study."""


class SearchBrokeOffError(SearcherError):
    """A search ended before its budget was used.

    Args:
        message: The reason, one line.
        unforeseen: The error in our own code that ended the search, whose traceback should not be lost; None for other
            reasons.
    """

    def __init__(self, message: str, unforeseen: Exception | None = None) -> None:
        super().__init__(message)
        self.unforeseen = unforeseen


class OutputError(SearcherError):
    """Standard output cannot be written, for example because the disk is full."""


class OutputClosedError(OutputError):
    """The reader of standard output, such as `head`, has closed it."""


class TrialError(SearcherError):
    """A trial cannot continue. The message becomes the trial's `fail_reason`."""


class NonFiniteLossError(TrialError):
    """A loss became NaN or infinite; the message names epoch, step and loss."""


class CheckpointError(TrialError):
    """A checkpoint is missing, damaged, or of another configuration."""


class NodeError(TrialError):
    """A node lacks something that the study's trials need, such as the shared storage folder."""
