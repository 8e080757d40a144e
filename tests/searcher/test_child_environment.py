"""Processes that train are started with an allow-list of variables."""

import os

import pytest

from searcher.child_environment import child_environment, reduced_environment

_NEEDED = """
PATH HOME LANG LC_ALL TZ TMPDIR LD_LIBRARY_PATH PYTHONPATH VIRTUAL_ENV XDG_CACHE_HOME OMP_NUM_THREADS MKL_NUM_THREADS
CUDA_VISIBLE_DEVICES CUBLAS_WORKSPACE_CONFIG NVIDIA_VISIBLE_DEVICES NCCL_DEBUG TORCH_HOME PYTORCH_CUDA_ALLOC_CONF
TORCHINDUCTOR_CACHE_DIR https_proxy HTTP_PROXY no_proxy SSL_CERT_FILE RAY_AUTH_TOKEN_PATH RAY_memory_usage_threshold
AWS_SECRET_ACCESS_KEY AWS_PROFILE GOOGLE_APPLICATION_CREDENTIALS AZURE_STORAGE_ACCOUNT SEARCHER_CACHE
"""
_SECRET = """
SEARCHER_DB PGPASSWORD PGPASSFILE SEARCHER_DASHBOARD_TOKEN MLFLOW_TRACKING_PASSWORD HF_TOKEN GITHUB_TOKEN
WANDB_API_KEY DATABASE_URL OPENAI_API_KEY SSH_AUTH_SOCK MYLAB_KEY
"""
NEEDED, SECRET = _NEEDED.split(), _SECRET.split()


@pytest.mark.parametrize(
    ("passed_on", "further"), [("", set()), ("MYLAB_*, HF_TOKEN", {"MYLAB_KEY", "HF_TOKEN"})]
)
def test_what_training_needs_is_passed_on_and_no_other(passed_on, further):
    given = dict.fromkeys([*NEEDED, *SECRET], "value") | {"SEARCHER_PASS_ENV": passed_on}
    assert child_environment(given).keys() == {*NEEDED, "SEARCHER_PASS_ENV", *further}


def test_the_databases_secrets_are_never_passed_on():
    given = {"SEARCHER_PASS_ENV": "SEARCHER_DB,PG*,*", "SEARCHER_DB": "x", "PGPASSWORD": "y", "PGHOST": "z"}
    assert child_environment(given).keys() == {"SEARCHER_PASS_ENV", "PGHOST"}


def test_all_variables_are_back_after_an_error(monkeypatch):
    monkeypatch.setenv("MYLAB_KEY", "value")
    before = dict(os.environ)

    def fail() -> None:
        with reduced_environment():
            assert "MYLAB_KEY" not in os.environ
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert dict(os.environ) == before
