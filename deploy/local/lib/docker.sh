# shellcheck shell=bash
# Kafka and PostgreSQL out of docker-compose.kafka.yml, their ports on the loopback interface. The product's own
# containers in that file are not touched: here it runs natively.

_compose() {
    # The file asks for the secrets of all its services, even where two of them are started.
    COMPOSE_PROJECT_NAME="router-$STACK" KAFKA_PORT=$KAFKA_PORT PG_PORT=$(pg_port) KAFKA_HEAP=$KAFKA_HEAP \
        POSTGRES_PASSWORD=$(<"$PG_PASSWORD_FILE") MASTER_KEY=${MASTER_KEY:-unused} \
        docker compose --file "$ROOT/docker-compose.kafka.yml" "$@"
}

# NOTHING_TO_DO: both run already. As without containers, PostgreSQL takes the next free port where its own is taken.
compose_up() {
    local running
    pg_make_password
    [[ -s $PG_PORT_FILE ]] || echo "$PG_PORT" >"$PG_PORT_FILE"
    running=" $(_compose ps --services --status running | sort | xargs) "
    [[ $running != ' kafka postgres ' ]] || return "$NOTHING_TO_DO"
    [[ $running == *' postgres '* ]] || port_from "$PG_PORT" >"$PG_PORT_FILE"
    [[ $running == *' kafka '* ]] || kafka_port_needed "$KAFKA_PORT"
    _compose up --detach --wait --wait-timeout 180 kafka postgres
}

compose_stop() { _compose stop --timeout 60 kafka postgres; }
compose_forget() { _compose down --volumes --timeout 60; }

compose_psql() {
    _compose exec -T postgres psql --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
        --username=router --dbname=router "$@"
}
