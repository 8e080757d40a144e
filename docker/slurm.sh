#!/bin/bash
# One study on a Slurm allocation: a Ray head and a worker on the first machine, a worker on each other one. From the top
# of the repository, which all machines see, after `make install`:
#
#   docker/secrets.sh
#   sbatch --nodes=4 docker/slurm.sh --study unet-broad --data /shared/glas --storage /shared/runs --db @/shared/me/database_url
#
# What follows the script goes to `searcher launch`. Interrupted, out of time, a machine lost: submit it again, and the
# study goes on. Others use these machines too: the token keeps them out of the cluster, and its ports are this job's own.
#SBATCH --job-name=searcher
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

here=${SEARCHER_HOME:-$SLURM_SUBMIT_DIR}
export PATH=$here/.venv/bin:$PATH
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$here/docker/secrets/ray_token}
umask 077
# A step takes this number from the job only where it is told to (Slurm 22.05); a worker would have one CPU.
cpus=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$cpus

# Missing or empty, it is refused by entrypoint.sh.
mode=$(stat --dereference --format=%a "$RAY_AUTH_TOKEN_PATH" 2>/dev/null || echo 600)
if [[ $mode != *00 ]]; then
    printf "RAY_AUTH_TOKEN_PATH: must be its owner's alone, others use these machines too, got mode %s of %s; chmod 600 it\n" \
        "$mode" "$RAY_AUTH_TOKEN_PATH" >&2
    exit 2
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address)
head=${head%% *}
port=$((20000 + SLURM_JOB_ID % 3000 * 4))
agent=$((port + 1))
everywhere=(--overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1)
first=(--overlap --nodes=1 --ntasks=1 --cpus-per-task=1 --gres=none --nodelist="${nodes[0]}")

# Ray's default, /tmp/ray, belongs to whoever came first. This one is made anew, or the job ends.
scratch=${TMPDIR:-/tmp}/searcher-$SLURM_JOB_ID
srun "${everywhere[@]}" mkdir -m 700 "$scratch"

launch="" ray=()
finish() {
    trap '' TERM
    # The launch first, so that it ends its trials in order while there still is a cluster.
    for process in $launch "${ray[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    srun "${everywhere[@]}" rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 143' TERM

# The head starts no trials, so that the launch and its database have attention.
srun "${first[@]}" "$here/docker/entrypoint.sh" head --node-ip-address="$head" --port="$port" --num-cpus=0 \
    --num-gpus=0 --include-dashboard=false --dashboard-agent-listen-port="$agent" --temp-dir="$scratch" &
ray=($! "${ray[@]}")
for _ in $(seq 120); do
    "$here/docker/entrypoint.sh" health "http://$head:$agent/api/local_raylet_healthz" 2>/dev/null && break
    kill -0 "${ray[0]}" 2>/dev/null || break
    sleep 1
done
kill -0 "${ray[0]}" 2>/dev/null || { printf 'the head of the Ray cluster did not start\n' >&2 && exit 1; }

srun "${everywhere[@]}" "$here/docker/entrypoint.sh" worker --address="$head:$port" \
    --num-cpus="$cpus" --dashboard-agent-listen-port="$((agent + 1))" --temp-dir="$scratch" &
ray=($! "${ray[@]}")

# A launch asks what the cluster has: all workers first, or those that are up after three minutes. Each is asked on its
# own machine, whatever names and addresses that has.
health="'$here/docker/entrypoint.sh' health http://127.0.0.1:$((agent + 1))/api/local_raylet_healthz"
srun "${everywhere[@]}" timeout 180 sh -c "until $health 2>/dev/null; do sleep 1; done" &
launch=$!
while kill -0 "$launch" 2>/dev/null; do
    kill -0 "${ray[0]}" 2>/dev/null || { printf 'the workers of the Ray cluster did not start\n' >&2 && exit 1; }
    sleep 1
done
wait "$launch" || printf 'not every worker is up; the launch begins with those that are\n' >&2

# In the background and waited for, so that a signal is heard at once and reaches it: the study stays resumable.
srun "${first[@]}" searcher launch --address "$head:$port" "$@" &
launch=$!
wait "$launch"
