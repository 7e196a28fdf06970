# shellcheck shell=bash
# What `deploy/local/router` can be told to do; each command reads as the list of its steps.

command_up() {
    local backing extra=()
    take_lock
    heading "The webhook router, on this machine"
    backing=$(backing_choose)
    remember_settings
    install_missing "$backing"
    product_master_key
    backing_up "$backing"
    step "ONNX Runtime" ort_install
    step "build" product_build
    step "tables" product_migrate
    step "topics" product_topics
    step "configuration topic" product_config
    step "API key" product_api_key
    product_write_env
    # Those that `make scale` has added.
    mapfile -t extra < <(services_known | grep -e '-[0-9]$' || true)
    services_up control-plane edge "${ROLES[@]}" "${extra[@]}"
    say_what_is_up
}

# The command that a person types next must be in what they read last.
say_what_is_up() {
    local key edge
    key=$(json_field "$API_KEY_FILE" key)
    edge=http://$(service_addr edge)
    ((STEPS_DONE)) || note "Everything was running already; nothing was changed."
    heading "Ready"
    cat <<READY
  edge            $edge   (listens on $EDGE_ADDR)
  control plane   http://$(service_addr control-plane)
  workers         process $PROCESS_ADMIN_ADDR, deliver $DELIVER_ADMIN_ADDR, retry $RETRY_ADMIN_ADDR, archive $ARCHIVE_ADMIN_ADDR
                  (/healthz, /readyz and /metrics on each)
  Kafka           $KAFKA_BROKERS
  PostgreSQL      ${DATABASE_URL/\/\/*@/\/\/…@}   (password in .local/env)
  API key         $key

  Send a webhook:

    curl -i $edge/webhooks -H 'x-api-key: $key' \\
      -H 'content-type: application/json' -d '{"event": "invoice.paid", "amount": 4200, "currency": "eur"}'

  Then try:

    make demo                            webhooks of many providers, and what becomes of each
    make send FILE=events.jsonl          your own
    deploy/local/router control --help   keys, sources, destinations, routes
    make status, make down               what runs; stop it
READY
}

command_down() {
    local name known=()
    take_lock
    mapfile -t known < <(services_known)
    for name in "${known[@]}"; do
        step "stop $name" service_stop "$name"
    done
    backing_down
    ((STEPS_DONE)) || note "Nothing was running."
}

command_clean() {
    local kept=''
    command_down
    # Servers of your own keep their tables, and with them secrets that only this key opens.
    if [[ $(cat "$BACKING_FILE" 2>/dev/null) == given && -s $MASTER_KEY_FILE ]]; then
        kept=$(<"$MASTER_KEY_FILE")
    fi
    backing_forget
    # The jars and the library are downloads, not data; what a build made is in target/.
    rm -rf "$STATE_DIR/kafka/data" "$STATE_DIR/kafka/server.properties" "$STATE_DIR/secrets" "$STATE_DIR/run" \
        "$STATE_DIR/log" "$LOCAL_DIR/env" "$LOCAL_DIR/secrets.env" "$SETTINGS_FILE"
    if [[ -n $kept ]]; then
        mkdir -p "$SECRETS_DIR"
        (umask 077 && printf %s "$kept" >"$MASTER_KEY_FILE")
        note "The master key stays in .local/secrets: what your PostgreSQL holds is sealed with it."
    else
        note "The data is gone."
    fi
}

command_status() {
    local name
    for name in control-plane edge "${ROLES[@]}" $(services_known | grep -e '-[0-9]$' || true); do
        _status_line "$name" "$(_service_state "$name")"
    done
    _status_line Kafka "$(_kafka_state)"
    _status_line PostgreSQL "$(_postgres_state)"
}

_status_line() { printf '  %-16s %s\n' "$1" "$2"; }

_service_state() {
    local pid addr state='not ready'
    addr=$(service_addr "$1")
    if ! pid=$(proc_pid "$1"); then
        echo "not running"
        return
    fi
    curl -sf -m 2 -o /dev/null "http://$addr/readyz" && state=ready
    echo "$state, http://$addr, process $pid"
}

# Those that were given are named in .local/env.
_kafka_state() {
    local brokers
    brokers=$(local_env KAFKA_BROKERS)
    brokers=${brokers:-127.0.0.1:$KAFKA_PORT}
    if kafka_answers "${brokers%%,*}"; then
        echo "answers at $brokers"
    else
        echo "does not answer at $brokers"
    fi
}

_postgres_state() {
    local address
    address=$(local_env DATABASE_URL)
    address=${address##*@}
    address=${address%%/*}
    if [[ -n $address ]] && (exec 3<>"/dev/tcp/${address%:*}/${address##*:}") 2>/dev/null; then
        echo "answers at $address"
    else
        echo "does not answer${address:+ at $address}"
    fi
}

# scale ROLE N: instances 2 to N beside the first.
command_scale() {
    local role=${1:-} count=${2:-} number names=() extra=()
    [[ " ${ROLES[*]} " == *" $role "* && $count =~ ^[1-9]$ ]] ||
        die "usage: make scale ROLE=process|deliver|retry|archive N=1..9" 64
    take_lock
    read_stack
    proc_runs "$role" || die "$role does not run: make up first"
    for ((number = 2; number <= count; number++)); do names+=("$role-$number"); done
    mapfile -t extra < <(services_known | grep "^$role-[0-9]$" || true)
    for name in "${extra[@]}"; do
        ((${name##*-} <= count)) || step "stop $name" service_stop "$name"
    done
    services_up "$role" "${names[@]}"
    note "$count of $role run."
}

# What `make up` has set up, for commands that come later.
read_stack() {
    [[ -r $LOCAL_DIR/env && -r $BACKING_FILE ]] || die "nothing is up here: make up first"
    product_master_key
    KAFKA_BROKERS=$(local_env KAFKA_BROKERS)
    DATABASE_URL=$(local_env DATABASE_URL)
}

command_install() {
    take_lock
    install_missing "$(backing_choose)"
}

command_control() {
    read_stack
    control "$@"
}

# A machine that runs PostgreSQL in a container may lack its client.
command_sql() {
    read_stack
    if command -v psql >/dev/null; then
        psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 --command "$1" "$DATABASE_URL"
    elif [[ $(<"$BACKING_FILE") == docker ]]; then
        compose_psql --command "$1"
    else
        die "psql is missing (Debian: postgresql-client)" "$EX_UNAVAILABLE"
    fi
}

# One of these commands at a time; the second waits a little, then says what is in the way.
take_lock() {
    mkdir -p "$STATE_DIR"
    command -v flock >/dev/null || return 0
    exec 9>"$STATE_DIR/lock"
    flock --wait 5 9 || die "another deploy/local/router works on this stack; try again when it is done"
}
