# shellcheck shell=bash
# What Kafka and PostgreSQL run on: servers that are given (KAFKA_BROKERS and DATABASE_URL), containers where an
# engine answers, else programs started here. Afterwards the two variables are set, whichever it is.

readonly BACKING_FILE="$RUN_DIR/backing"

# Prints given, docker or native.
backing_choose() {
    if _backing_is_given; then
        echo given
    elif [[ -r $BACKING_FILE ]]; then
        # Where the data is it stays, until `make clean`.
        cat "$BACKING_FILE"
    elif [[ ${BACKING:-} == native || ${BACKING:-} == docker ]]; then
        echo "$BACKING"
    elif docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then
        echo docker
    else
        echo native
    fi
}

# Someone who has read .local/env into the shell means the servers that it speaks of.
_backing_is_given() {
    [[ -n ${KAFKA_BROKERS:-} || -n ${DATABASE_URL:-} ]] || return 1
    if [[ -r $LOCAL_DIR/env && -r $BACKING_FILE && $(<"$BACKING_FILE") != given ]]; then
        [[ ${KAFKA_BROKERS:-} == "$(local_env KAFKA_BROKERS)" && ${DATABASE_URL:-} == "$(local_env DATABASE_URL)" ]] &&
            return 1
    fi
    [[ -n ${KAFKA_BROKERS:-} && -n ${DATABASE_URL:-} ]] ||
        die "KAFKA_BROKERS and DATABASE_URL go together: set both to use servers of your own, or neither" 64
}

backing_up() {
    local backing=$1
    mkdir -p "$RUN_DIR"
    # Before it is tried, so that `make down` also ends what came up only half.
    echo "$backing" >"$BACKING_FILE"
    case $backing in
        given)
            backing_addresses given
            note "Kafka at $KAFKA_BROKERS and PostgreSQL as DATABASE_URL says: your own (until make clean)"
            _broker_answers || die "no Kafka answers at $KAFKA_BROKERS (KAFKA_BROKERS)"
            ;;
        docker)
            step "Kafka and PostgreSQL in containers" compose_up
            ;;
        native)
            step "Apache Kafka's files" kafka_install
            proc_runs kafka || kafka_port_needed "$KAFKA_PORT" "$((KAFKA_PORT + 1))"
            step "Kafka" kafka_start
            step "PostgreSQL" pg_start
            ;;
    esac
    backing_addresses "$backing"
}

# local_env NAME: what .local/env says.
local_env() { [[ ! -r $LOCAL_DIR/env ]] || sed -n "s/^$1=//p" "$LOCAL_DIR/env"; }

backing_addresses() {
    if [[ $1 == given ]]; then
        KAFKA_BROKERS=${KAFKA_BROKERS:-$(local_env KAFKA_BROKERS)}
        DATABASE_URL=${DATABASE_URL:-$(local_env DATABASE_URL)}
        return
    fi
    KAFKA_BROKERS="127.0.0.1:$KAFKA_PORT"
    DATABASE_URL=$(pg_url)
}

# Only a plain listener can be asked without a client; with KAFKA_PROPERTIES the product itself finds out.
_broker_answers() {
    local broker
    [[ -n ${KAFKA_PROPERTIES:-} ]] && return
    for broker in ${KAFKA_BROKERS//,/ }; do
        kafka_answers "$broker" && return
    done
    return 1
}

# Ends only what was started here.
backing_down() {
    case $(cat "$BACKING_FILE" 2>/dev/null) in
        docker) step "stop the containers" compose_stop ;;
        native)
            step "stop Kafka" kafka_stop
            step "stop PostgreSQL" pg_stop
            ;;
        given) note "your Kafka and PostgreSQL are left alone" ;;
    esac
}

backing_forget() {
    case $(cat "$BACKING_FILE" 2>/dev/null) in
        docker) step "remove the containers and their data" compose_forget ;;
        given) note "what is in your Kafka and PostgreSQL stays there" ;;
    esac
    pg_forget
}
