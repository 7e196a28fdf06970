# shellcheck shell=bash
# What the person at the terminal sees: numbered steps with their time, and for a step that failed its name,
# the end of its log and where the rest of it is. Sourced by deploy/local/router; decides nothing.

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    readonly BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' RESET=$'\e[0m'
else
    readonly BOLD='' DIM='' RED='' GREEN='' RESET=''
fi

# No program that is called here ends with it; apt-get's 100 and timeout's 124 are errors.
readonly NOTHING_TO_DO=113

note() { printf '  %s\n' "$*"; }
heading() { printf '\n%s%s%s\n' "$BOLD" "$*" "$RESET"; }
warn() { printf '%swarning:%s %s\n' "$RED" "$RESET" "$*" >&2; }

# die MESSAGE [STATUS]: ends the command. 69: something must be installed; 75: a port is taken.
die() {
    printf '%serror:%s %s\n' "$RED" "$RESET" "$1" >&2
    exit "${2:-1}"
}

seconds_since() { printf '%d s' $((SECONDS - $1)); }

# A line that is drawn over while a step runs; where nobody sees it drawn, one every 15 seconds.
_waiting_line() {
    local name=$1 since=$2 log=$3 last=''
    [[ -s $log ]] && last=$(tail -n 1 "$log" | tr -d '\r' | cut -c1-70)
    if [[ -t 1 ]]; then
        printf '\r\e[K  %s … %s %s%s%s' "$name" "$(seconds_since "$since")" "$DIM" "$last" "$RESET"
    elif ((SECONDS >= NEXT_LINE)); then
        NEXT_LINE=$((SECONDS + 15))
        printf '  … %s, %s: %s\n' "$name" "$(seconds_since "$since")" "$last"
    fi
}

_clear_line() { [[ -t 1 ]] && printf '\r\e[K' || true; }

# step NAME COMMAND...: runs it with its output in LOG_DIR/step-NAME.log and shows that it is alive.
# Its status NOTHING_TO_DO is a success that changed nothing.
step() {
    local name=$1 since=$SECONDS pid status=0
    shift
    local log="$LOG_DIR/step-${name//[^A-Za-z0-9]/-}.log"
    mkdir -p "$LOG_DIR"
    NEXT_LINE=$((SECONDS + 15))
    # A process group of its own, so that an interrupt ends what the step has called, a compiler say; what it
    # leaves running on purpose has a session of its own.
    set -m
    (set +m && "$@") >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    STEP_PID=$pid
    while kill -0 "$pid" 2>/dev/null; do
        _waiting_line "$name" "$since" "$log"
        sleep 0.2
    done
    wait "$pid" || status=$?
    STEP_PID=''
    _clear_line
    case $status in
        0)
            ((STEPS_DONE += 1))
            printf '  %s✓%s %s %s(%s)%s\n' "$GREEN" "$RESET" "$name" "$DIM" "$(seconds_since "$since")" "$RESET"
            ;;
        "$NOTHING_TO_DO") printf '  %s✓ %s: nothing to do%s\n' "$DIM" "$name" "$RESET" ;;
        *) _failed "$name" "$status" "$log" ;;
    esac
}

STEP_PID=''
NEXT_LINE=0
# How many steps of this command had something to do.
STEPS_DONE=0

_failed() {
    local name=$1 status=$2 log=$3
    printf '  %s✗ %s failed%s (status %s)\n\n' "$RED" "$name" "$RESET" "$status" >&2
    tail -n 25 "$log" | sed 's/^/    /' >&2
    printf '\n  the whole log: %s\n' "${log#"$ROOT"/}" >&2
    exit "$status"
}

# For a trap: ends the step that runs.
end_step() {
    [[ -n $STEP_PID ]] && kill -TERM -- "-$STEP_PID" 2>/dev/null
    STEP_PID=''
}
