"""What the driver has in its environment and no worker may have: every trial's code could read it there."""

import contextlib
import os
from collections.abc import Iterator

__all__ = ["DATABASE_SECRETS", "withheld_from_workers"]

DATABASE_SECRETS = ("SEARCHER_DB", "PGPASSWORD")
"""Variables that open the study database. Of those that libpq reads, the second alone holds a secret and no path."""
_SECRETS = (*DATABASE_SECRETS, "SEARCHER_DASHBOARD_TOKEN")
_PREFIX = "MLFLOW_"
"""Of all settings of MLflow, a password perhaps among them."""


@contextlib.contextmanager
def withheld_from_workers() -> Iterator[None]:
    """Take the driver's secrets out of the environment that Ray is started with; they are back afterwards."""
    names = [name for name in os.environ if name in _SECRETS or name.startswith(_PREFIX)]
    withheld = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(withheld)
