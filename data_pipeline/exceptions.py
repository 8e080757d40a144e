"""The error of the data pipeline."""

__all__ = ["DataError"]


class DataError(ValueError):
    """Images or annotations that cannot be used. The message says where, the rule, the value, the remedy.

    A folder with several problems raises one error with one line per problem.

    Args:
        problems: One line per problem.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
