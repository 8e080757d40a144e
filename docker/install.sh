#!/bin/sh
# Installs the project's dependencies into a virtual environment: exactly what requirements.lock has, hash by hash.
# Run where pyproject.toml and requirements.lock are.
#
#   docker/install.sh cuda|cpu VENV [options of uv pip install, --dry-run for one]
#
# cuda  PyTorch as the lock has it: its Linux wheels bring CUDA, and run without a GPU too. Some 5 GB.
# cpu   PyTorch and torchvision from PyTorch's own CPU wheels, of the lock's versions. The lock has no hashes of those.
set -eu

torch=${1:?cuda or cpu} venv=${2:?a virtual environment}
shift 2
python=$venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

: >"$work/left_out"
case $torch in
cuda) ;;
cpu) grep -oE '^(torch|torchvision|triton|cuda-[a-z0-9-]+|nvidia-[a-z0-9-]+)==' requirements.lock | tr -d '=' >"$work/left_out" ;;
*)
    printf 'docker/install.sh: must be cuda or cpu, got %s\n' "$torch" >&2
    exit 2
    ;;
esac

# The lock also holds what only developers need; as constraints it decides version and hash of what is asked for.
uv pip install --python "$python" --no-cache --compile-bytecode --require-hashes --constraints requirements.lock \
    --excludes "$work/left_out" --requirements pyproject.toml --all-extras "$@"
if [ "$torch" = cpu ]; then
    sed -e '/--hash=/d' -e 's/ \\$//' requirements.lock >"$work/versions"
    uv pip install --python "$python" --no-cache --compile-bytecode --torch-backend cpu --constraints "$work/versions" \
        torch torchvision "$@"
fi
