# shellcheck shell=bash
# ONNX Runtime's shared library, out of the wheel on PyPI, into .local/onnxruntime/. A wheel is a zip: nothing
# of Python runs. Version and checksums are pinned here; deploy/Dockerfile sources this file, so that the
# image holds the same library. Needs curl or pip, unzip, and LOCAL_DIR.

readonly ORT_VERSION=1.32.0
readonly ORT_LIBRARY="$LOCAL_DIR/onnxruntime/libonnxruntime.so"
readonly ORT_FILES=https://files.pythonhosted.org/packages

# Prints "SHA256 DIRECTORY PLATFORM" of the wheel for this processor.
_ort_wheel() {
    case "$(uname -s) $(uname -m)" in
        'Linux x86_64') echo 5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d \
            1d/46/e6f356c9539d2eed44126de3421a81e217da2ad91b22dc11b379cb1e384f manylinux_2_28_x86_64 ;;
        'Linux aarch64') echo 2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c \
            b7/30/103820b32e9dc1d1fcfc5b519fd2de5bd699d25a25895caf5d726350d1b5 manylinux_2_28_aarch64 ;;
        *) return 1 ;;
    esac
}

# By its address where that can be reached, else through pip, which knows the index of a closed network.
_ort_fetch() {
    local directory=$1 name=$2 platform=$3
    echo "fetching $name"
    curl -fsSL --connect-timeout 10 --retry 2 -o "$name" "$ORT_FILES/$directory/$name" && return
    echo "not by its address; trying pip"
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.11 \
        --platform "$platform" --dest . "onnxruntime==$ORT_VERSION"
}

ort_is_there() { [[ -s $ORT_LIBRARY && $(cat "$ORT_LIBRARY.version" 2>/dev/null) == "$ORT_VERSION" ]]; }

# Returns NOTHING_TO_DO when it is there already.
ort_install() {
    if [[ -n ${ORT_DYLIB_PATH:-} ]]; then
        [[ -s $ORT_DYLIB_PATH ]] && return "${NOTHING_TO_DO:-0}"
        echo "ORT_DYLIB_PATH names $ORT_DYLIB_PATH, and no library is there"
        return 1
    fi
    ort_is_there && return "${NOTHING_TO_DO:-0}"
    local checksum directory platform name work status=0
    if ! read -r checksum directory platform < <(_ort_wheel); then
        echo "no ONNX Runtime is pinned for $(uname -s) on $(uname -m): set ORT_DYLIB_PATH to a library of" \
            "version $ORT_VERSION"
        return 1
    fi
    name="onnxruntime-$ORT_VERSION-cp311-cp311-$platform.whl"
    mkdir -p "${ORT_LIBRARY%/*}"
    work=$(mktemp -d "${ORT_LIBRARY%/*}/fetch.XXXXXX")
    (cd "$work" && _ort_fetch "$directory" "$name" "$platform" && _ort_unpack "$name" "$checksum") || status=$?
    rm -rf "$work"
    return "$status"
}

_ort_unpack() {
    local name=$1 checksum=$2
    if ! echo "$checksum  $name" | sha256sum --check --quiet; then
        echo "$name is not the file that was pinned (expected sha256 $checksum)"
        return 1
    fi
    unzip -qoj "$name" 'onnxruntime/capi/libonnxruntime.so*' || return
    # Renamed last, so that a half-written library is never found.
    mv libonnxruntime.so* "$ORT_LIBRARY" && echo "$ORT_VERSION" >"$ORT_LIBRARY.version"
}
