#!/usr/bin/env bash
# Builds the fuzz targets and runs each for some seconds: run.sh SECONDS [TARGET…]. Needs cargo-fuzz on the PATH and a C++ compiler.
# A panic, a hang, one allocation or all of them beyond a bound fail it; the input then lies in artifacts/ of the build folder.
#
# Environment: FUZZ_FOUND, a folder that keeps the inputs that were found (default: they are dropped; the corpora here are only
# read); FUZZ_JOBS, how many targets run at once (default: one a processor).
set -euo pipefail
cd "$(dirname "$0")"

seconds=$1
shift
built=$(realpath -m "${CARGO_TARGET_DIR:-../../target}/fuzz")
host=$(rustc -vV | sed -n 's/^host: //p')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
found=$(realpath -m "${FUZZ_FOUND:-$scratch/found}")

# The longest input, and the largest single allocation in MiB: a checkpoint of a few kilobytes may inflate to 16 MiB.
limits() {
    case $1 in
        ckpt) echo 16384 256 ;;
        prompt) echo 32768 64 ;;
        request) echo 65536 64 ;;
        # A head may promise 256 MiB.
        picture) echo 8192 300 ;;
        checkpoint) echo 256 16 ;;
        *) echo 8192 64 ;;
    esac
}

run() {
    local target=$1 longest largest dictionary=()
    read -r longest largest < <(limits "$target")
    [ ! -e "dictionaries/$target.dict" ] || dictionary=("-dict=dictionaries/$target.dict")
    mkdir -p "$found/$target" "$built/artifacts/$target"
    "$built/$host/release/$target" -max_total_time="$seconds" -max_len="$longest" "${dictionary[@]}" \
        -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb="$largest" -print_final_stats=1 \
        -artifact_prefix="$built/artifacts/$target/" "$found/$target" "corpus/$target" >"$scratch/$target.log" 2>&1 || {
        tail -n 60 "$scratch/$target.log" >&2
        echo "fuzz target $target: FAILED, see $built/artifacts/$target" >&2
        return 1
    }
    # The last line of progress, and how much was done.
    awk -v target="$target" '/ cov: / { split($0, part, " cov: "); split(part[2], progress, " exec/s"); last = progress[1] }
        /number_of_executed_units/ { units = $2 }
        END { printf "%-16s %9d executions, coverage %s\n", target, units, last }' "$scratch/$target.log"
}

# AddressSanitizer, not for unsafe code of ours, of which there is none here, but because only its allocator lets libFuzzer see a
# single allocation that is too large before its memory is touched. What ships is built without cfg(fuzzing), and so is this.
RUSTC_WRAPPER=$PWD/rustc.sh RUSTC_BOOTSTRAP=1 cargo fuzz build --fuzz-dir . --sanitizer address --no-cfg-fuzzing --target-dir "$built"

if [ $# = 0 ]; then
    set -- $(cargo fuzz list --fuzz-dir .)
fi
jobs=${FUZZ_JOBS:-$(getconf _NPROCESSORS_ONLN)}
failed=
for target in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
        wait -n || failed=yes
    done
    run "$target" &
done
while [ -n "$(jobs -p)" ]; do
    wait -n || failed=yes
done
[ -z "$failed" ]
