# shellcheck shell=bash
# Everything of the product that is made once: programs, master key, tables, topics, an API key, and the files
# that tell others about it (.local/env, .local/secrets.env).

readonly MASTER_KEY_FILE="$SECRETS_DIR/master_key"
readonly API_KEY_FILE="$SECRETS_DIR/api_key.json"

# NOTHING_TO_DO: cargo found nothing to compile.
product_build() {
    local before after
    before=$(_programs)
    cd "$ROOT" || return
    CARGO_TERM_QUIET=false CARGO_TERM_COLOR=never cargo build --release --locked --bins \
        -p ingest-edge -p stream-workers -p control-plane -p router-tools || return
    after=$(_programs)
    [[ $before != "$after" ]] || return "$NOTHING_TO_DO"
}

# Before the first build there is nothing to list, which is no failure.
_programs() {
    (cd "$BIN_DIR" && ls -l --time-style=full-iso ingest-edge stream-workers control-plane router-tools) 2>/dev/null || true
}

product_master_key() {
    mkdir -p "$SECRETS_DIR"
    chmod 700 "$SECRETS_DIR"
    [[ -s $MASTER_KEY_FILE ]] || (umask 077 && head -c 32 /dev/urandom | base64 | tr -d '\n' >"$MASTER_KEY_FILE")
    MASTER_KEY=${MASTER_KEY:-$(<"$MASTER_KEY_FILE")}
}

# The command line of the control plane with the settings of this stack.
control() {
    KAFKA_BROKERS=$KAFKA_BROKERS DATABASE_URL=$DATABASE_URL MASTER_KEY=$MASTER_KEY "$BIN_DIR/control-plane" "$@"
}

# NOTHING_TO_DO: the tables are up to date.
product_migrate() { _quiet_if 'the tables are up to date' migrate; }

# NOTHING_TO_DO: every topic is as asked.
product_topics() {
    local said
    said=$(control topics create --partitions "$PARTITIONS" --json) || return
    echo "$said"
    [[ $said == *'"done":["'* || $said == *'"done":[{'* ]] || return "$NOTHING_TO_DO"
}

# NOTHING_TO_DO: topic and tables agree. They do not after one of the two was replaced.
product_config() { _quiet_if 'the topic holds what the tables say' config republish; }

# _quiet_if TEXT COMMAND...: NOTHING_TO_DO where the command says TEXT, and nothing more.
_quiet_if() {
    local nothing=$1 said
    shift
    said=$(control "$@") || return
    echo "$said"
    [[ $said != "$nothing" ]] || return "$NOTHING_TO_DO"
}

# NOTHING_TO_DO: the key of an earlier time still works.
product_api_key() {
    local id
    id=$(json_field "$API_KEY_FILE" id)
    [[ -n $id ]] && control key list --json | _key_is_good "$id" && return "$NOTHING_TO_DO"
    (umask 077 && control key create --name "local-$(date +%Y%m%d-%H%M%S)" --json >"$API_KEY_FILE.new") || return
    mv "$API_KEY_FILE.new" "$API_KEY_FILE"
    echo "made a key"
}

# Reads the list of keys: ours is there and was not revoked.
_key_is_good() { tr '{' '\n' | grep -F "\"id\":\"$1\"" | grep -qF '"revoked_at_ms":null'; }

# json_field FILE NAME: a text at the top of a flat JSON object that our own command line has written.
json_field() { [[ ! -r $1 ]] || sed -n 's/.*"'"$2"'": *"\([^"]*\)".*/\1/p' "$1" | head -n 1; }

# Writes a file only if it would change, readable by its owner alone: both hold secrets.
_write_private() {
    local file=$1 text
    text=$(cat)
    [[ -f $file && $(<"$file") == "$text" ]] && return
    (umask 077 && printf '%s\n' "$text" >"$file.new") && mv "$file.new" "$file"
}

product_write_env() {
    _write_private "$LOCAL_DIR/env" <<ENV
# Written by \`make up\`. To use it in a shell: set -a; . .local/env; . .local/secrets.env; set +a
KAFKA_BROKERS=$KAFKA_BROKERS
DATABASE_URL=$DATABASE_URL
EDGE_URL=http://$(service_addr edge)
CONTROL_URL=http://$(service_addr control-plane)
ROUTER_API_KEY=$(json_field "$API_KEY_FILE" key)
EDGE_METRICS_URL=http://$(service_addr edge)/metrics
CONTROL_METRICS_URL=http://$(service_addr control-plane)/metrics
PROCESS_METRICS_URL=http://$(service_addr process)/metrics
DELIVER_METRICS_URL=http://$(service_addr deliver)/metrics
RETRY_METRICS_URL=http://$(service_addr retry)/metrics
ARCHIVE_METRICS_URL=http://$(service_addr archive)/metrics
ENV
    _write_private "$LOCAL_DIR/secrets.env" <<ENV
# Written by \`make up\`. What else the command line of the control plane needs.
MASTER_KEY=$MASTER_KEY
ENV
}
