# shellcheck shell=bash
# What the machine itself must have. Root on Debian or Ubuntu: missing packages are installed. Anyone else:
# nothing is installed; the line that would do it is printed, and the status is 69 (EX_UNAVAILABLE).

readonly EX_UNAVAILABLE=69
MISSING=()

_have() { command -v "$1" >/dev/null 2>&1; }
_need() { "${@:2}" 2>/dev/null || MISSING+=("$1"); }

# Fills MISSING with Debian's names. The commands count, not the packages: they may come from elsewhere.
_look_for_missing() {
    local backing=$1
    MISSING=()
    _need curl _have curl
    _need unzip _have unzip
    _need ca-certificates test -d /etc/ssl/certs
    # librdkafka and zstd are compiled from source; OpenSSL and zlib are the system's.
    _need build-essential _have_compilers
    _need pkg-config _have pkg-config
    _need libssl-dev pkg-config --exists openssl
    _need zlib1g-dev pkg-config --exists zlib
    [[ $backing == native ]] || return 0
    _need "$(_java_package)" _have_java
    [[ -d $KAFKA_JARS ]] || _need maven _have mvn
    _need postgresql _have_postgres
}

_have_compilers() { _have cc && _have c++ && _have make; }

_have_postgres() { [[ -n $(pg_bin) ]]; }

# Kafka 4 wants Java 17 or newer.
_have_java() {
    local version
    version=$("${KAFKA_JAVA[0]}" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || return 1
    [[ -n $version ]] && ((version >= 17))
}

# Debian 12 has 17, Debian 13 has 21.
_java_package() {
    local version
    for version in 21 17 25; do
        # A package that others mention and nobody offers has a candidate of "(none)".
        if apt-cache policy "openjdk-$version-jre-headless" 2>/dev/null | grep -q 'Candidate: [0-9]'; then
            echo "openjdk-$version-jre-headless"
            return
        fi
    done
    echo default-jre-headless
}

_apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    # Debian starts a cluster of its own on 5432 when the server is installed; ours is enough.
    if [[ " $* " == *' postgresql '* && ! -e /etc/postgresql-common/createcluster.conf ]]; then
        apt-get install -y --no-install-recommends postgresql-common
        sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
    fi
    apt-get install -y --no-install-recommends "$@"
}

# install_missing native|docker|given: what Kafka and PostgreSQL will run on.
install_missing() {
    local backing=$1
    _require_rust
    _look_for_missing "$backing"
    ((${#MISSING[@]})) || { note "${DIM}✓ packages: nothing to do$RESET"; return 0; }
    _have apt-get || _say_what_is_missing
    [[ $EUID == 0 ]] || _say_what_is_missing
    # The lists of a fresh machine are empty, and the name of Java's package is looked up in them.
    step "package lists" apt-get update
    _look_for_missing "$backing"
    step "install ${#MISSING[@]} packages" _apt_install "${MISSING[@]}"
    _look_for_missing "$backing"
    ((${#MISSING[@]} == 0)) || die "still missing after the installation: ${MISSING[*]}" "$EX_UNAVAILABLE"
}

_say_what_is_missing() {
    if _have apt-get; then
        die "some packages are missing, and only root may install them. Run this, then try again:

    sudo apt-get install -y --no-install-recommends ${MISSING[*]}
" "$EX_UNAVAILABLE"
    fi
    die "install these (named as in Debian), then try again: ${MISSING[*]}" "$EX_UNAVAILABLE"
}

_require_rust() {
    local wanted
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    _have cargo || die "the Rust toolchain is missing (cargo, $wanted or newer). Install it for this user, then try again:

    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
" "$EX_UNAVAILABLE"
    local found
    found=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1) == "$wanted" ]] ||
        die "Rust $found is too old; $wanted or newer is needed: rustup update stable" "$EX_UNAVAILABLE"
}
