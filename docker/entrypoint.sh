#!/bin/sh
# What our containers run; a machine without containers runs it just as well (docker/slurm.sh does).
#
#   entrypoint.sh head   [options of ray start]    the head of a Ray cluster
#   entrypoint.sh worker --address=HOST:PORT [options of ray start]
#   entrypoint.sh dashboard [options of searcher dashboard]
#   entrypoint.sh health URL...                    exit code 0 if each answers, whatever it thinks of strangers
#   entrypoint.sh COMMAND ...                      any other command
#
# Ray demands its token (RAY_AUTH_MODE=token) unless the environment says otherwise; the token is in the file that
# RAY_AUTH_TOKEN_PATH names. The database is in the file that SEARCHER_DB=@FILE names. Neither is ever printed.
set -eu

export RAY_AUTH_MODE="${RAY_AUTH_MODE:-token}"
export RAY_USAGE_STATS_ENABLED=0
export NO_ALBUMENTATIONS_UPDATE=1

# Trials exchange a few numbers; images never go through Ray's object store.
object_store_bytes=134217728

fail() {
    printf '%s\n' "$1" >&2
    exit 2
}

# Ray would end with a stack trace, or, without RAY_AUTH_TOKEN_PATH, take a token of the user's that others lack.
demand_token() {
    [ "$RAY_AUTH_MODE" = token ] || return 0
    [ -n "${RAY_AUTH_TOKEN:-}" ] && return 0 # KubeRay puts it there
    [ -n "${RAY_AUTH_TOKEN_PATH:-}" ] ||
        fail "RAY_AUTH_TOKEN_PATH: must name the file with the cluster's token, got nothing; docker/secrets.sh makes one"
    [ -r "$RAY_AUTH_TOKEN_PATH" ] && [ -s "$RAY_AUTH_TOKEN_PATH" ] ||
        fail "RAY_AUTH_TOKEN_PATH: must be a readable file with a token in it, got $RAY_AUTH_TOKEN_PATH as user $(id -u);\
 see docs/containers.md"
}

[ $# -gt 0 ] || fail "entrypoint.sh: needs head, worker, dashboard, health or a command; got nothing"
role=$1
shift

case $role in
head)
    demand_token
    unset SEARCHER_DB # a launch names it; Ray's processes, and so the trials, need not know where it is
    # A detached launch that `ray job stop` ends has the time to end its trials in order; Ray's 3 s are not enough.
    export RAY_JOB_STOP_WAIT_TIME_S="${RAY_JOB_STOP_WAIT_TIME_S:-60}"
    exec ray start --head --block --disable-usage-stats --object-store-memory="$object_store_bytes" "$@"
    ;;
worker)
    demand_token
    unset SEARCHER_DB
    exec ray start --block --disable-usage-stats --object-store-memory="$object_store_bytes" "$@"
    ;;
dashboard)
    exec searcher dashboard "$@"
    ;;
health)
    exec python -c '
import sys, urllib.error, urllib.request
straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for url in sys.argv[1:]:
    try:
        straight.open(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            sys.exit(f"{url}: {error.code}")
    except OSError as error:
        sys.exit(f"{url}: {error}")
' "$@"
    ;;
*)
    exec "$role" "$@"
    ;;
esac
