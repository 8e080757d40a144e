"""Which of this process's variables the processes that it starts may have: an allow-list.

Every trial's code can read its environment, and on many machines so can every process of the same user. So a password
in the environment of `searcher` must not reach what trains. A list of secrets to withhold would miss the next one;
this one lists what training, Ray and the object stores need.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping

__all__ = ["DATABASE_SECRETS", "PASS_ON", "child_environment", "reduced_environment"]

DATABASE_SECRETS = ("SEARCHER_DB", "PGPASSWORD")
"""Variables that open the study database. Of the variables that libpq reads, only the second one holds a secret and no
path."""
PASS_ON = "SEARCHER_PASS_ENV"
"""Variable with further names to pass on, separated by commas; `MYLAB_*` passes on all that begin so."""

_NEVER = frozenset({*DATABASE_SECRETS, "SEARCHER_DASHBOARD_TOKEN"})
_NAMES = """
PATH HOME USER LOGNAME SHELL PWD TERM COLUMNS NO_COLOR LANG LANGUAGE TZ TZDIR TMPDIR TEMP TMP HOSTNAME
VIRTUAL_ENV GLIBC_TUNABLES SYSTEMROOT
HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY NO_GRPC_PROXY GRPC_PROXY
SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE HF_ENDPOINT HUGGINGFACE_HUB_CACHE
GOOGLE_APPLICATION_CREDENTIALS GCE_METADATA_HOST GCE_METADATA_ROOT GCE_METADATA_IP
CLOUDSDK_CONFIG GOOGLE_CLOUD_PROJECT BOTO_CONFIG
NO_ALBUMENTATIONS_UPDATE SEARCHER_CACHE SEARCHER_PASS_ENV SEARCHER_SCRATCH
"""
"""In capitals; those of proxies are mostly written small."""
_PREFIXES = """
LC_ LD_ DYLD_ XDG_ PYTHON CONDA_ MAMBA_ OMP_ GOMP_ KMP_ MKL_ OPENBLAS_ GOTO_ BLIS_ NUMEXPR_ VECLIB_ DNNL_ ONEDNN_
MALLOC_ CUDA_ CUBLAS_ CUDNN_ NVIDIA_ NCCL_ TORCH PYTORCH_ TRITON_ ROCR_ ROCM_ HIP_ HSA_ MIOPEN_ RCCL_ GLOO_ UCX_ IB_
RAY_ TUNE_ GRPC_ MPL TIFF OPENCV_ OPENSLIDE_ AWS_ AZURE_ KUBERNETES_ SLURM_ SEARCHER_CHAOS_
"""
"""How the names begin. Keys of object stores (`AWS_`, `AZURE_`) are among them: trials read and write there."""
_ALLOWED_NAMES, _ALLOWED_PREFIXES = frozenset(_NAMES.split()), tuple(_PREFIXES.split())


def child_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment variables that may be passed to a process that trains or measures training.

    Args:
        environment: All variables; None for those of this process.
    """
    given = os.environ if environment is None else environment
    further = re.split(r"[,\s]+", given.get(PASS_ON, ""))
    names = {name for name in further if name and not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in further if len(name) > 1 and name.endswith("*"))
    return {
        name: value
        for name, value in given.items()
        if name not in _NEVER
        and (
            name.upper() in _ALLOWED_NAMES
            or name.startswith(_ALLOWED_PREFIXES)
            or name in names
            or (prefixes and name.startswith(prefixes))
        )
    }


@contextlib.contextmanager
def reduced_environment() -> Iterator[None]:
    """Context manager that removes the other variables from this process's environment, and restores them at the end.

    It is for libraries that start processes with this process's environment, as Ray does.
    """
    secret_environment = {name: os.environ[name] for name in os.environ.keys() - child_environment().keys()}
    for name in secret_environment:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(secret_environment)
