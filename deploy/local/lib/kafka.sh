# shellcheck shell=bash
# Apache Kafka without containers: one KRaft node out of Maven Central, data and log under STATE_DIR. Which
# topics there are is not decided here. Versions stand in ../kafka/pom.xml.

readonly KAFKA_JARS="$LOCAL_DIR/kafka/lib"
readonly KAFKA_DATA="$STATE_DIR/kafka/data"
readonly KAFKA_CONFIG="$STATE_DIR/kafka/server.properties"

# Jars of another pom are replaced. NOTHING_TO_DO: there is nothing to do.
kafka_install() {
    local stamp pom="$HERE/kafka/pom.xml" work="$KAFKA_JARS.new"
    stamp=$(sha256sum <"$pom")
    [[ $(cat "$KAFKA_JARS/.pom" 2>/dev/null) == "$stamp" ]] && return "$NOTHING_TO_DO"
    rm -rf "$work"
    mkdir -p "$work"
    mvn --batch-mode --no-transfer-progress --update-snapshots --file "$pom" \
        org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies \
        -DoutputDirectory="$work" -DincludeScope=runtime || return
    echo "$stamp" >"$work/.pom"
    rm -rf "$KAFKA_JARS"
    mv "$work" "$KAFKA_JARS"
}

# The JVM raises its own limit of open files as far as it may.
KAFKA_JAVA=("${JAVA_HOME:+$JAVA_HOME/bin/}java" "-Xmx$KAFKA_HEAP" -Xms256m -XX:+ExitOnOutOfMemoryError
    -Djava.awt.headless=true -Dlog4j2.configurationFile="$HERE/kafka/log4j2.properties" -cp "$KAFKA_JARS/*")

_kafka_configure() {
    mkdir -p "${KAFKA_CONFIG%/*}"
    sed -e "s|@PORT@|$KAFKA_PORT|g" -e "s|@CONTROLLER_PORT@|$((KAFKA_PORT + 1))|g" \
        -e "s|@DATA@|$KAFKA_DATA|" "$HERE/kafka/server.properties.in" >"$KAFKA_CONFIG"
    [[ -f $KAFKA_DATA/meta.properties ]] && return
    local id
    id=$("${KAFKA_JAVA[@]}" kafka.tools.StorageTool random-uuid | tail -n 1) || return
    "${KAFKA_JAVA[@]}" kafka.tools.StorageTool format --cluster-id "$id" --config "$KAFKA_CONFIG" --standalone
}

# Whether a broker answers on PORT: an ApiVersions request (key 18, version 0, client "make") must bring back
# at least a length and our correlation id. A port that is merely open does not count.
kafka_answers() {
    local host=${1%:*} port=${1##*:}
    timeout 3 bash -c '
        exec 3<>"/dev/tcp/$0/$1" || exit 1
        printf "\0\0\0\016\0\022\0\0\0\0\0\01\0\04make" >&3
        [[ $(head -c 8 <&3 | od -An -tx1 -j4 | tr -d " \n") == 00000001 ]]' "$host" "$port" 2>/dev/null
}

# kafka_port_needed PORT...: its own, and where there is no container the controller's.
kafka_port_needed() {
    local port variable=KAFKA_PORT
    [[ $STACK == local ]] || variable=${STACK^^}_KAFKA_PORT
    for port in "$@"; do port_needed "$port" "$variable" Kafka; done
}

# NOTHING_TO_DO: it runs already. Waits until it answers.
kafka_start() {
    if proc_runs kafka && ! grep -qF "PLAINTEXT://127.0.0.1:$KAFKA_PORT," "$KAFKA_CONFIG"; then
        echo "Kafka runs at another port than $KAFKA_PORT: make down first, to move it"
        return 1
    fi
    proc_runs kafka && kafka_answers "127.0.0.1:$KAFKA_PORT" && return "$NOTHING_TO_DO"
    if ! proc_runs kafka; then
        _kafka_configure || return
        proc_start kafka "${KAFKA_JAVA[@]}" kafka.Kafka "$KAFKA_CONFIG"
    fi
    local waited=0
    until kafka_answers "127.0.0.1:$KAFKA_PORT"; do
        if ! proc_runs kafka; then
            echo "Kafka ended; the end of $LOG_DIR/kafka.log:"
            tail -n 20 "$LOG_DIR/kafka.log"
            return 1
        elif ((waited++ >= 300)); then
            echo "Kafka does not answer after 60 s; see $LOG_DIR/kafka.log"
            return 1
        fi
        sleep 0.2
    done
}

kafka_stop() { proc_stop kafka 60; }
