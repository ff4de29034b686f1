#!/usr/bin/env bash
# Plays deploy/Dockerfile's CPU build with plain commands, as no docker daemon is needed for that: whether cargo finds all it needs in what
# .dockerignore lets through, whether the programs need nothing that the image lacks, and whether each runs in a root that holds nothing
# else, cannot be written, and has no shell, as a user without rights. What it does not prove: that docker builds it, and anything of CUDA.
#
#   tests/deploy/image.sh [FOLDER OF THE PROGRAMS]        target/release if none is named; needs root, or sudo without a password
set -euo pipefail
cd "$(dirname "$0")/../.."

programs=$(realpath "${1:-target/release}")
# What a program may weigh without debug information and symbols, and the C library of the image (Debian 12).
most_bytes=60000000
newest_glibc=2.36
# gcr.io/distroless/cc-debian12 has these of Debian's libraries: libc6, libgcc-s1, libstdc++6, libgomp1, libssl3.
libraries='^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|libstdc\+\+\.so\.6|ld-linux-x86-64\.so\.2)$'
services=(text-encoder denoiser vae orchestrator)

folder=$(mktemp -d)
running=
end() {
    status=$?
    if [ -n "$running" ]; then kill "$running" 2>/dev/null || true; wait "$running" 2>/dev/null || true; fi
    rm -rf "$folder"
    exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
fail() { printf '%s\n' "$*" >&2; exit 1; }

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)

echo "-- cargo finds its way in what .dockerignore lets through"
python3 tests/deploy/context.py "$folder/context"
for service in "${services[@]}"; do
    # The Dockerfile's own command, but for the plan of the build instead of the build.
    grep -qF 'cargo build --release --locked --package "$package" --features "$FEATURES"' deploy/Dockerfile || fail "deploy/Dockerfile builds otherwise"
    (cd "$folder/context" && RUSTC_BOOTSTRAP=1 cargo build --release --locked --package "darkroom-$service" --features "" \
        -Z unstable-options --unit-graph >"$folder/plan")
    python3 - "$folder" "$service" <<'CHECK'
import json, pathlib, sys
folder, service = sys.argv[1:]
sources = [unit["target"]["src_path"] for unit in json.loads(pathlib.Path(folder, "plan").read_text())["units"]]
assert any(f"services/{service}/src/main.rs" in source for source in sources), f"no program {service} in the plan"
missing = [source for source in sources if source.startswith(folder) and not pathlib.Path(source).is_file()]
assert not missing, f"not in the build's context: {missing}"
CHECK
done

echo "-- each program is small and needs only what the image has"
for service in "${services[@]}"; do
    program=$folder/darkroom-$service
    cp "$programs/darkroom-$service" "$program"
    strip --strip-all "$program"
    bytes=$(stat -c %s "$program")
    needed=$(objdump -p "$program" | awk '$1 == "NEEDED" { print $2 }')
    glibc=$(objdump -T "$program" | grep -o 'GLIBC_[0-9.]*' | cut -d _ -f 2 | sort -uV | tail -n 1)
    printf '%s: %d bytes, glibc %s, %s\n' "darkroom-$service" "$bytes" "$glibc" "$(tr '\n' ' ' <<<"$needed")"
    [ "$bytes" -le "$most_bytes" ] || fail "darkroom-$service has $bytes bytes, more than $most_bytes"
    ! grep -vE "$libraries" <<<"$needed" || fail "darkroom-$service needs what the image lacks"
    [ "$(printf '%s\n' "$glibc" "$newest_glibc" | sort -V | tail -n 1)" = "$newest_glibc" ] \
        || fail "darkroom-$service needs glibc $glibc, and the image has $newest_glibc"
done

echo "-- each runs with a root that it cannot write, without a shell, as user 65532"
for service in "${services[@]}"; do
    root=$folder/root-$service
    mkdir -p "$root"/{proc,usr/local/bin}
    cp "$folder/darkroom-$service" "$root/usr/local/bin/darkroom-service"
    ldd "$folder/darkroom-$service" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    read -r grpc http < <(python3 -c '
import socket
ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(port.getsockname()[1] for port in ports))')
    # Its own process and mount namespaces; the network is this machine's.
    "${as_root[@]}" unshare --mount --pid --fork --kill-child bash -euc '
        mount --bind "$1" "$1"
        mount -o remount,bind,ro "$1"
        mount -t proc -o ro proc "$1/proc"
        if chroot --userspec=65532:65532 "$1" /bin/sh -c true 2>/dev/null; then echo "there is a shell"; exit 1; fi
        if touch "$1/usr/local/bin/new" 2>/dev/null; then echo "the root can be written"; exit 1; fi
        exec env -i DARKROOM_GRPC_ADDR="127.0.0.1:$2" DARKROOM_HTTP_ADDR="127.0.0.1:$3" \
            "$(command -v chroot)" --userspec=65532:65532 "$1" /usr/local/bin/darkroom-service
    ' _ "$root" "$grpc" "$http" >"$folder/log" 2>&1 &
    running=$!
    answer=
    for _ in $(seq 300); do
        kill -0 "$running" 2>/dev/null || fail "darkroom-$service ended: $(cat "$folder/log")"
        answer=$(python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode().strip())' \
            "http://127.0.0.1:$http/healthz" 2>/dev/null) && break
        sleep 0.1
    done
    [ "$answer" = live ] || fail "darkroom-$service did not answer /healthz: $(cat "$folder/log")"
    echo "darkroom-$service answers"
    # Itself, not those that started it: they are its parents.
    innermost=$running
    while child=$(pgrep -P "$innermost"); do innermost=$child; done
    [ "$(ps -o uid= -p "$innermost" | tr -d ' ')" = 65532 ] || fail "darkroom-$service does not run as user 65532"
    "${as_root[@]}" kill "$innermost"
    wait "$running" || fail "darkroom-$service did not end by itself after SIGTERM: $(cat "$folder/log")"
    running=
done
