"""A study on Ray: the driver, its search algorithm, the trials and the cluster they run on.

Ray reads the variables below once, when it is imported; so they are set before any module of this room imports it.
Nothing phones home; the terminal and the signals belong to us, not to Ray.
"""

import os

from searcher.orchestration.cluster.scratch import give_home, homeless

if homeless():
    give_home()
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
