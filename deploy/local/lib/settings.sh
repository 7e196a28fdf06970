# shellcheck shell=bash
# Where everything is and which variables change it. STACK names the installation: `local` is what `make up`
# starts, any other (`test`, `bench`) is Kafka and PostgreSQL alone with ports and data of their own. What was
# set at one `make up` holds for the commands after it, until it is set to something else, or to nothing.

readonly STACK=${STACK:-local}
readonly LOCAL_DIR="$ROOT/.local"

readonly SETTINGS_FILE="$LOCAL_DIR/settings"
# The product's own; the processes read them from the environment.
readonly PASSED_ON=(KAFKA_PROPERTIES KAFKA_GROUP_PROTOCOL KAFKA_SESSION_TIMEOUT_MS TOPIC_PREFIX RETRY_LADDER
    BODY_LIMIT_BYTES EDGE_ADMIN_ADDR EDGE_THREADS EDGE_HEADER_LIMIT_BYTES EDGE_HEADER_TIMEOUT_MS EDGE_BODY_TIMEOUT_MS
    EDGE_PRODUCE_TIMEOUT_MS EDGE_DRAIN_TIMEOUT_MS EDGE_MAX_REQUESTS_IN_FLIGHT EDGE_MAX_BYTES_IN_FLIGHT
    EDGE_MAX_CONNECTIONS CLASSIFIER MODEL_DIR DELIVER_MAX_IN_FLIGHT ARCHIVE_RETENTION_DAYS RUST_LOG LOG_FORMAT)
readonly REMEMBERED=(KAFKA_PORT KAFKA_HEAP PG_PORT BACKING PARTITIONS DESTINATION_ALLOW_CIDRS EDGE_ADDR CONTROL_ADDR
    PROCESS_ADMIN_ADDR DELIVER_ADMIN_ADDR RETRY_ADMIN_ADDR ARCHIVE_ADMIN_ADDR ORT_DYLIB_PATH "${PASSED_ON[@]}")

_recall_settings() {
    local name value
    [[ -r $SETTINGS_FILE ]] || return 0
    while IFS='=' read -r name value; do
        [[ " ${REMEMBERED[*]} " == *" $name "* && -z ${!name+set} ]] || continue
        export "$name=$value"
    done <"$SETTINGS_FILE"
}

# The values themselves are not shown: properties of librdkafka may hold a password.
remember_settings() {
    local name text='' names=()
    for name in "${REMEMBERED[@]}"; do
        [[ -n ${SET_BY_USER[$name]:-} ]] || continue
        text+="$name=${SET_BY_USER[$name]}"$'\n'
        names+=("$name")
    done
    (umask 077 && printf %s "$text" >"$SETTINGS_FILE")
    ((${#names[@]} == 0)) || note "set by you, now or earlier: ${names[*]} (in .local/settings)"
}

declare -A SET_BY_USER=()
if [[ $STACK == local ]]; then
    _recall_settings
    for name in "${REMEMBERED[@]}"; do
        [[ -z ${!name:-} ]] || SET_BY_USER[$name]=${!name}
    done
fi

case $STACK in
    local)
        STATE_DIR=$LOCAL_DIR
        KAFKA_PORT=${KAFKA_PORT:-9092} PG_PORT=${PG_PORT:-5432} KAFKA_HEAP=${KAFKA_HEAP:-1g}
        ;;
    test)
        STATE_DIR=$LOCAL_DIR/test
        KAFKA_PORT=${TEST_KAFKA_PORT:-19092} PG_PORT=${TEST_PG_PORT:-15432} KAFKA_HEAP=${TEST_KAFKA_HEAP:-512m}
        ;;
    bench)
        STATE_DIR=$LOCAL_DIR/bench
        KAFKA_PORT=${BENCH_KAFKA_PORT:-29092} PG_PORT=${BENCH_PG_PORT:-25432} KAFKA_HEAP=${BENCH_KAFKA_HEAP:-1g}
        ;;
    *) die "there is no stack $STACK; there are local, test and bench" 64 ;;
esac
readonly STATE_DIR
readonly RUN_DIR=$STATE_DIR/run LOG_DIR=$STATE_DIR/log SECRETS_DIR=$STATE_DIR/secrets

# The product's addresses, and what its processes are told.
EDGE_ADDR=${EDGE_ADDR:-0.0.0.0:4000}
CONTROL_ADDR=${CONTROL_ADDR:-127.0.0.1:4001}
PROCESS_ADMIN_ADDR=${PROCESS_ADMIN_ADDR:-127.0.0.1:4011}
DELIVER_ADMIN_ADDR=${DELIVER_ADMIN_ADDR:-127.0.0.1:4012}
RETRY_ADMIN_ADDR=${RETRY_ADMIN_ADDR:-127.0.0.1:4013}
ARCHIVE_ADMIN_ADDR=${ARCHIVE_ADMIN_ADDR:-127.0.0.1:4014}
# A laptop's receivers are on the loopback interface; in production this is empty.
DESTINATION_ALLOW_CIDRS=${DESTINATION_ALLOW_CIDRS-127.0.0.0/8,::1/128}

readonly PARTITIONS=${PARTITIONS:-12}
readonly ROLES=(process deliver retry archive)

# The line at which a wait for readiness gives up.
readonly READY_SECONDS=${READY_SECONDS:-90}
readonly BIN_DIR="${CARGO_TARGET_DIR:-$ROOT/target}/release"
