# shellcheck shell=bash
# PostgreSQL of the system, with a cluster of its own: on the loopback interface, as an unprivileged user, with
# a generated password. Its tables are the business of `control-plane migrate`.

PG_HOME="$STATE_DIR/postgres"
readonly PG_PASSWORD_FILE="$STATE_DIR/secrets/postgres_password"
readonly PG_PORT_FILE="$STATE_DIR/secrets/postgres_port"

# PostgreSQL refuses to run as root.
_pg_as_user() {
    if [[ $EUID == 0 ]]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# Root's checkout may lie where user postgres cannot go, such as under /root.
_pg_place() {
    [[ $EUID == 0 ]] || return 0
    _pg_as_user test -x "$STATE_DIR" && return
    PG_HOME="/var/lib/webhook-router/$(printf %s "$STATE_DIR" | sha256sum | cut -c1-12)"
    echo "user postgres cannot reach $STATE_DIR: the database goes to $PG_HOME"
}

# Prints the folder of the newest PostgreSQL, or of the version that made the data.
pg_bin() {
    local version='*' found
    [[ -r $PG_HOME/data/PG_VERSION ]] && version=$(<"$PG_HOME/data/PG_VERSION")
    # shellcheck disable=SC2086  # the star is meant
    found=$(ls -d /usr/lib/postgresql/$version/bin 2>/dev/null | sort -Vt/ -k5 | tail -n 1)
    if [[ -z $found ]] && command -v initdb >/dev/null; then
        found=$(dirname "$(command -v initdb)")
    fi
    [[ -n $found ]] && echo "$found"
}

_pg_init() {
    [[ -f $PG_HOME/data/PG_VERSION ]] && return
    mkdir -p "$PG_HOME"
    pg_make_password
    [[ $EUID == 0 ]] && chown postgres "$PG_HOME"
    chmod 700 "$PG_HOME"
    # Whoever may enter PG_HOME may use the socket; the port wants a password.
    _pg_as_user "$(pg_bin)/initdb" --pgdata="$PG_HOME/data" --username=postgres --encoding=UTF8 \
        --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256
}

# The role that DATABASE_URL names, and its database. Made again on each start, so that a first start which
# was interrupted is finished by the next.
_pg_role() {
    local rights=CREATEDB
    [[ $STACK == local ]] || rights=SUPERUSER
    _pg_psql postgres <<SQL || return
DO \$\$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'router') THEN CREATE ROLE router; END IF;
END \$\$;
ALTER ROLE router LOGIN $rights PASSWORD '$(<"$PG_PASSWORD_FILE")';
SELECT 'CREATE DATABASE router OWNER router'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'router') \gexec
SQL
}

_pg_psql() {
    _pg_as_user "$(pg_bin)/psql" --no-psqlrc --quiet --set ON_ERROR_STOP=1 -h "$PG_HOME" -p "$(pg_port)" \
        -U postgres -d "$1"
}

# Made once; hexadecimal, so that it needs no escaping in an address.
pg_make_password() {
    mkdir -p "${PG_PASSWORD_FILE%/*}"
    chmod 700 "${PG_PASSWORD_FILE%/*}"
    [[ -s $PG_PASSWORD_FILE ]] && return
    (umask 077 && head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$PG_PASSWORD_FILE")
}

pg_port() { cat "$PG_PORT_FILE"; }
pg_url() { echo "postgres://router:$(<"$PG_PASSWORD_FILE")@127.0.0.1:$(pg_port)/router"; }

_pg_is_up() {
    [[ -d $PG_HOME/data ]] && _pg_as_user "$(pg_bin)/pg_ctl" --pgdata="$PG_HOME/data" status >/dev/null 2>&1
}

# NOTHING_TO_DO: it runs already. The port is PG_PORT, or the next free one: a system's own cluster often has 5432.
pg_start() {
    _pg_place
    if _pg_is_up; then
        _pg_role || return
        return "$NOTHING_TO_DO"
    fi
    _pg_init || return
    local options="-c listen_addresses=127.0.0.1 -c unix_socket_directories='$PG_HOME' -c max_connections=200"
    # Written to all the time: fewer checkpoints write fewer whole pages into the log.
    options+=" -c max_wal_size=4GB -c checkpoint_timeout=15min -c shared_buffers=256MB"
    # Data that is thrown away after the tests need not survive a power cut.
    [[ $STACK == test ]] && options+=" -c fsync=off -c full_page_writes=off"
    port_from "$PG_PORT" >"$PG_PORT_FILE"
    mkdir -p "$LOG_DIR"
    ln -sfn "$PG_HOME/postgres.log" "$LOG_DIR/postgres.log"
    _pg_as_user "$(pg_bin)/pg_ctl" --pgdata="$PG_HOME/data" --log="$PG_HOME/postgres.log" --timeout=60 --wait \
        --options="$options -c port=$(pg_port)" start 9>&- || {
        tail -n 20 "$PG_HOME/postgres.log"
        return 1
    }
    _pg_role
}

# NOTHING_TO_DO: it did not run.
pg_stop() {
    _pg_place
    _pg_is_up || return "$NOTHING_TO_DO"
    _pg_as_user "$(pg_bin)/pg_ctl" --pgdata="$PG_HOME/data" --mode=fast --timeout=60 --wait stop
}

pg_forget() {
    _pg_place
    rm -rf "$PG_HOME"
}
