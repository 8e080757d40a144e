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
        problems: The lines. A name in one of them may hold a line's end, which makes no second problem of it.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = [*problems]


class StudyFileError(UserError):
    """A study file that is not valid.

    Args:
        problems: One line per problem, each with file, key, rule and value.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(*problems)

    def __reduce__(self) -> tuple[type["StudyFileError"], tuple[list[str]]]:
        return StudyFileError, (self.problems,)


class TextFileError(UserError):
    """A file of text or JSON that cannot be read; its content is not shown."""


class UnknownStudyError(UserError):
    """A study that is neither shipped nor a file, or not in the database."""


class DatabaseError(UserError):
    """A database that cannot be opened, reached or understood. Passwords are masked."""


class DatabaseAwayError(DatabaseError):
    """A database that is out of reach, locked or full now, and may be there again in a while."""


class DatabaseReplacedError(DatabaseError):
    """A database that was deleted, replaced or set back while it was in use: what is written now would be lost."""


class StorageError(UserError):
    """An object store that cannot be reached or used. Keys are never shown."""

    is_final = True
    """Whether trying again is of no use."""


class ClusterAwayError(UserError):
    """A Ray cluster whose dashboard does not answer now, and may answer again in a while."""


class StudyConflictError(UserError):
    """A request that contradicts the study in the database, or a study that another driver runs."""


class SearchBrokeOffError(SearcherError):
    """A search that could not go on.

    Args:
        message: One line.
        unforeseen: The error of our own code that ended it, whose traceback should not be lost; None for another.
    """

    def __init__(self, message: str, unforeseen: Exception | None = None) -> None:
        super().__init__(message)
        self.unforeseen = unforeseen


class OutputError(SearcherError):
    """Standard output cannot be written, on a full disk say."""


class OutputClosedError(OutputError):
    """The reader of standard output, `head` say, has seen enough."""


class TrialError(SearcherError):
    """One trial cannot go on. The message becomes the trial's `fail_reason`."""


class NonFiniteLossError(TrialError):
    """A loss became NaN or infinite; the message names epoch, step and loss."""


class CheckpointError(TrialError):
    """A checkpoint is missing, damaged, or of another configuration."""


class NodeError(TrialError):
    """A node that lacks what the study's trials need, such as the shared storage folder."""
