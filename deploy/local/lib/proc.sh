# shellcheck shell=bash
# Processes by id: started apart from the terminal, remembered in RUN_DIR/NAME.pid together with the moment
# they started, and touched again only while both still agree, since ids are used again. Also: ports.

# The kernel's start time of a process; the same id with another start time is another program.
_started_at() {
    if [[ -r /proc/$1/stat ]]; then
        # The name in field 2 may hold spaces, so count from behind its closing bracket.
        sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20
    else
        ps -o lstart= -p "$1" 2>/dev/null
    fi
}

# proc_pid NAME: prints its id while it runs.
proc_pid() {
    local pid started file="$RUN_DIR/$1.pid"
    [[ -r $file ]] || return 1
    { read -r pid && read -r started; } <"$file" || return 1
    [[ -n $pid && $(_started_at "$pid") == "$started" ]] && ! _is_zombie "$pid" && echo "$pid"
}

_is_zombie() { [[ -r /proc/$1/stat && $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]; }

proc_runs() { proc_pid "$1" >/dev/null; }

proc_remember() {
    mkdir -p "$RUN_DIR"
    printf '%s\n%s\n' "$2" "$(_started_at "$2")" >"$RUN_DIR/$1.pid"
}

# proc_start NAME COMMAND...: in the background, in a session of its own so that Ctrl-C here does not reach
# it, output to LOG_DIR/NAME.log.
proc_start() {
    local name=$1 away=nohup
    shift
    command -v setsid >/dev/null && away=setsid
    mkdir -p "$LOG_DIR"
    printf -- '--- started %s\n' "$(date '+%F %T')" >>"$LOG_DIR/$name.log"
    # The lock of the command that starts it must not live on in it.
    "$away" "$@" </dev/null >>"$LOG_DIR/$name.log" 2>&1 9>&- &
    proc_remember "$name" $!
}

# proc_stop NAME [SECONDS]: asks it to end, waits, and after the time given ends it. NOTHING_TO_DO: it did not run.
proc_stop() {
    local name=$1 limit=${2:-30} pid waited=0
    if ! pid=$(proc_pid "$name"); then
        rm -f "$RUN_DIR/$name.pid"
        return "$NOTHING_TO_DO"
    fi
    kill -TERM "$pid"
    while proc_runs "$name"; do
        if ((waited++ >= limit * 10)); then
            echo "$name did not end within $limit s; ending it now"
            kill -KILL "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
    rm -f "$RUN_DIR/$name.pid"
}

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The first free port from $1 on.
port_from() {
    local port=$1
    while port_is_taken "$port"; do ((port++)); done
    echo "$port"
}

# port_needed PORT VARIABLE WHO: ends with a message where somebody else is there.
port_needed() {
    port_is_taken "$1" || return 0
    local holder=''
    command -v ss >/dev/null && holder=$(ss -Hltnp "sport = :$1" 2>/dev/null | grep -o 'users:.*' | head -n 1)
    die "port $1, which $3 needs, is taken${holder:+ by $holder}: free it, or choose another with $2" 75
}
