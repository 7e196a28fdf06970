# shellcheck shell=bash
# Kafka and PostgreSQL for tests and benchmarks: ports and data of their own, fresh each time, always stopped
# afterwards. The tests start the product's processes themselves.

# test-stack up|down, bench-stack up|down. `up` prints KEY=VALUE lines for whoever calls it, and the rest to
# standard error.
command_stack() {
    case ${1:-} in
        up)
            stack_up >&2
            stack_env
            ;;
        down) stack_down ;;
        *) die "usage: $STACK-stack up|down" 64 ;;
    esac
}

stack_up() {
    local backing
    take_lock
    # Servers that are given serve `make up`; a test must be able to wipe its own.
    unset KAFKA_BROKERS DATABASE_URL
    backing=$(backing_choose)
    install_missing "$backing"
    _stack_end
    _stack_wipe
    backing_up "$backing"
    step "ONNX Runtime" ort_install
}

stack_down() {
    take_lock
    _stack_end
    _stack_wipe
}

# What an earlier run that was killed has left.
_stack_end() { backing_down; }

_stack_wipe() {
    [[ $(cat "$BACKING_FILE" 2>/dev/null) != docker ]] || backing_forget
    pg_forget
    rm -rf "$STATE_DIR/kafka" "$RUN_DIR" "$SECRETS_DIR"
}

stack_env() {
    cat <<ENV
KAFKA_BROKERS=$KAFKA_BROKERS
DATABASE_URL=$DATABASE_URL
ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$ORT_LIBRARY}
ROUTER_TEST_STACK=1
ENV
}

# command_test ARGUMENTS...: of cargo test. The status is that of the tests, whatever happens to the stack afterwards.
command_test() {
    heading "Tests, on a stack of their own"
    trap '_after_tests $?' EXIT
    stack_up
    # The lock is for starting and stopping; the run itself is minutes.
    _run_tests "$@"
}

# What takes longer: the tests that are marked `ignored`.
command_soak() {
    heading "Soak: what takes longer, on a stack of its own"
    trap '_after_tests $?' EXIT
    stack_up
    ROUTER_SOAK=1 _run_tests "$@" -- --ignored --test-threads=1 --nocapture
}

# In a process group of its own, so that whatever ends this command ends the tests and what they have started.
_run_tests() {
    local status=0
    heading "cargo test"
    [[ " $* " == *' -p '* ]] || set -- --workspace "$@"
    set -m
    (
        set +m
        cd "$ROOT"
        # The tests of the whole product start its programs, which `cargo test` alone does not all build.
        cargo build --release --workspace --bins --locked 9>&- || exit
        export KAFKA_BROKERS DATABASE_URL ROUTER_TEST_STACK=1 ROUTER_REQUIRE_ORT=1
        export ORT_DYLIB_PATH=${ORT_DYLIB_PATH:-$ORT_LIBRARY}
        exec cargo test --release --locked "$@" 9>&-
    ) </dev/null &
    STEP_PID=$!
    set +m
    wait "$STEP_PID" || status=$?
    STEP_PID=''
    return "$status"
}

_after_tests() {
    local status=$1
    trap '' INT TERM
    end_step || true
    stack_down || warn "the test stack did not stop; try: deploy/local/router test-stack down"
    exit "$status"
}
