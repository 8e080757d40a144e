#!/bin/sh
# Makes the secrets of docker/compose.yaml and the settings that go with them; overwrites nothing.
#
#   docker/secrets.sh [FOLDER]     default: secrets beside this file
#
# postgres_password   of the database's user
# database_url        the same as an address, what `searcher --db @FILE` reads
# ray_token           whoever has it can run any code on the cluster
# dashboard_token     to log in to `searcher dashboard`
#
# Each is a file that its owner alone can read. The containers run as that owner: as you, or, if root makes them, as
# user 10001, the image's own. FOLDER/../.env tells compose who that is.
set -eu
umask 077

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
folder=${1:-$here/secrets}
settings=$(dirname -- "$folder")/.env
names="postgres_password database_url ray_token dashboard_token"

for name in $names; do
    if [ -e "$folder/$name" ]; then
        printf '%s: exists already and is kept; to make new ones see "Rotating" in docs/containers.md\n' \
            "$folder/$name" >&2
        exit 2
    fi
done

random_hex() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

uid=$(id -u) gid=$(id -g)
if [ "$uid" -eq 0 ]; then
    uid=10001 gid=10001
fi

# Complete or not at all: everything is made in a folder beside, which becomes the real one by its name.
mkdir -p "$(dirname -- "$folder")"
made=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$made"' EXIT
password=$(random_hex)
printf '%s\n' "$password" >"$made/postgres_password"
printf 'postgresql://searcher:%s@postgres/searcher\n' "$password" >"$made/database_url"
random_hex >"$made/ray_token"
random_hex >"$made/dashboard_token"
[ "$(id -u)" -ne 0 ] || chown -R "$uid:$gid" "$made"
if [ -d "$folder" ]; then
    rmdir "$folder" # refuses if anything else is in it
fi
mv "$made" "$folder"
trap - EXIT

if [ -e "$settings" ]; then
    printf '%s: kept; it must say SEARCHER_UID=%s and SEARCHER_GID=%s\n' "$settings" "$uid" "$gid" >&2
else
    sed -e "s/^SEARCHER_UID=.*/SEARCHER_UID=$uid/" -e "s/^SEARCHER_GID=.*/SEARCHER_GID=$gid/" \
        "$here/.env.example" >"$settings"
fi
printf 'made in %s, for user %s: %s\n' "$folder" "$uid" "$names"
