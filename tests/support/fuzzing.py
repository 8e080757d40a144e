"""How many examples a generated test tries: a few in `make test`, many in `make fuzz`."""

import os

from hypothesis import HealthCheck, settings

__all__ = ["examples"]


def examples(short: int) -> settings:
    """Return settings for a test that tries `short` examples, or $SEARCHER_FUZZ_EXAMPLES where `make fuzz` sets it."""
    return settings(
        max_examples=int(os.environ.get("SEARCHER_FUZZ_EXAMPLES", short)),
        deadline=None,
        print_blob=True,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
        ],
    )
