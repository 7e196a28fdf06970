# shellcheck shell=bash
# The product's own processes: edge, control-plane and the workers' roles. Each is started with the settings it
# needs and no others, waited for at /readyz, and started again only where it ended, or where its program or
# its settings are no longer those it was started with.

# service_addr NAME: where it answers /readyz. Further instances are called deliver-2, deliver-3, ...
service_addr() {
    case $1 in
        edge) echo "127.0.0.1:${EDGE_ADDR##*:}" ;;
        control-plane) echo "$CONTROL_ADDR" ;;
        process) echo "$PROCESS_ADMIN_ADDR" ;;
        deliver) echo "$DELIVER_ADMIN_ADDR" ;;
        retry) echo "$RETRY_ADMIN_ADDR" ;;
        archive) echo "$ARCHIVE_ADMIN_ADDR" ;;
        process-*) echo "127.0.0.1:$((4210 + ${1#*-}))" ;;
        deliver-*) echo "127.0.0.1:$((4230 + ${1#*-}))" ;;
        retry-*) echo "127.0.0.1:$((4250 + ${1#*-}))" ;;
        archive-*) echo "127.0.0.1:$((4270 + ${1#*-}))" ;;
    esac
}

# The variable that moves it elsewhere.
_service_variable() {
    case $1 in
        edge) echo EDGE_ADDR ;;
        control-plane) echo CONTROL_ADDR ;;
        *-*) echo "another N" ;;
        *) echo "${1^^}_ADMIN_ADDR" ;;
    esac
}

# Fills SERVICE_ENV and COMMAND. Who needs no secret is given none.
_service_command() {
    local name=$1 role=${1%-[0-9]*}
    SERVICE_ENV=("KAFKA_BROKERS=$KAFKA_BROKERS")
    COMMAND=("$BIN_DIR/stream-workers" "$role")
    case $role in
        edge)
            SERVICE_ENV+=("EDGE_ADDR=$EDGE_ADDR")
            COMMAND=("$BIN_DIR/ingest-edge")
            return
            ;;
        control-plane)
            SERVICE_ENV+=("CONTROL_ADDR=$CONTROL_ADDR" "DATABASE_URL=$DATABASE_URL" "MASTER_KEY=$MASTER_KEY")
            COMMAND=("$BIN_DIR/control-plane" serve)
            return
            ;;
        process) SERVICE_ENV+=("ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$ORT_LIBRARY}") ;;
        deliver) SERVICE_ENV+=("MASTER_KEY=$MASTER_KEY" "DESTINATION_ALLOW_CIDRS=$DESTINATION_ALLOW_CIDRS") ;;
        archive) SERVICE_ENV+=("DATABASE_URL=$DATABASE_URL") ;;
    esac
    SERVICE_ENV+=("WORKER_ADMIN_ADDR=$(service_addr "$name")" "WORKER_INSTANCE_ID=$name")
}

# Changes with the program and with its settings.
_service_stamp() {
    local name
    {
        cksum <"${COMMAND[0]}"
        printf '%s\n' "${SERVICE_ENV[@]}"
        for name in "${PASSED_ON[@]}"; do printf '%s\n' "$name=${!name:-}"; done
    } | sha256sum
}

# service_start NAME: in the foreground, since a taken port ends the command with a clear word. Does not wait.
# Afterwards STARTED says whether there was anything to do.
service_start() {
    local name=$1 stamp
    STARTED=no
    _service_command "$name"
    stamp=$(_service_stamp)
    if proc_runs "$name"; then
        [[ $(cat "$RUN_DIR/$name.stamp" 2>/dev/null) == "$stamp" ]] && return
        note "$name runs with another program or other settings: it starts again"
        proc_stop "$name"
    fi
    local addr
    addr=$(service_addr "$name")
    port_needed "${addr##*:}" "$(_service_variable "$name")" "$name"
    (
        unset DATABASE_URL MASTER_KEY
        export "${SERVICE_ENV[@]}"
        proc_start "$name" "${COMMAND[@]}"
    )
    echo "$stamp" >"$RUN_DIR/$name.stamp"
    STARTED=yes
}

# service_wait NAME STARTED: until /readyz says 200. NOTHING_TO_DO: it was ready and nothing had been started.
service_wait() {
    local name=$1 started=$2 addr until=$((SECONDS + READY_SECONDS))
    addr=$(service_addr "$name")
    until curl -sf -m 2 -o /dev/null "http://$addr/readyz"; do
        if ! proc_runs "$name"; then
            echo "$name ended; the end of .local/log/$name.log:"
            tail -n 20 "$LOG_DIR/$name.log"
            return 1
        elif ((SECONDS > until)); then
            echo "$name is not ready after $READY_SECONDS s; /readyz says:"
            curl -s -m 2 "http://$addr/readyz" || true
            printf '\nthe end of .local/log/%s.log:\n' "$name"
            tail -n 20 "$LOG_DIR/$name.log"
            return 1
        fi
        echo "waiting for http://$addr/readyz"
        sleep 0.2
    done
    [[ $started == yes ]] || return "$NOTHING_TO_DO"
}

# services_up NAME...: starts them together, then waits for one after another.
services_up() {
    local name started=()
    for name in "$@"; do
        service_start "$name"
        started+=("$STARTED")
    done
    for name in "$@"; do
        step "$name" service_wait "$name" "${started[0]}"
        started=("${started[@]:1}")
    done
}

# Prints the names of all that has a pid file, those that feed others first: the edge answers what it has
# accepted while everything behind it is still there.
services_known() {
    local name file
    for name in edge process deliver retry archive control-plane; do
        [[ -e $RUN_DIR/$name.pid ]] && echo "$name"
        for file in "$RUN_DIR/$name"-[0-9]*.pid; do
            [[ -e $file ]] && basename "$file" .pid
        done
    done
    return 0
}

service_stop() {
    local status=0
    proc_stop "$1" 45 || status=$?
    rm -f "$RUN_DIR/$1.stamp"
    return "$status"
}
