#!/usr/bin/env bash
# What the official image's entry does, as far as overlay kind needs it: a cluster on first use, then the server.
set -euo pipefail
[[ ${1:-} == -* ]] && set -- postgres "$@"
bin=$(echo /usr/lib/postgresql/*/bin)
export PATH="$bin:$PATH"
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "$POSTGRES_PASSWORD") --encoding=UTF8 --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    pg_ctl --wait --log=/tmp/init.log --options="-c listen_addresses= -c unix_socket_directories=/tmp" start
    psql=(psql --host=/tmp --username="$POSTGRES_USER" --set=ON_ERROR_STOP=1 --quiet)
    [ "$POSTGRES_DB" = postgres ] || "${psql[@]}" --dbname=postgres --command="CREATE DATABASE \"$POSTGRES_DB\""
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ ! -e "$file" ] || "${psql[@]}" --dbname="$POSTGRES_DB" --file="$file"
    done
    pg_ctl --wait --mode=fast stop
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
