#!/usr/bin/env bash
# Looks at signed pictures and at a running fleet with tools that nobody here wrote: invisible-watermark, buf, grpcurl, Python's grpcio,
# OpenTelemetry's protos, promtool and Prometheus.
#
#   tests/outside/run.sh [PATH OF THE darkroom PROGRAM]
#
# The program is target/release/darkroom if none is named. Everything happens on loopback, on free ports, and ends with the
# script. Python 3 with venv, prometheus with promtool, and the example `sign` beside the program must be there; the other tools are
# installed into a cache folder.
#
# Environment: DARKROOM_CACHE, that folder (default: darkroom-checks in the user's cache folder).
set -euo pipefail
cd "$(dirname "$0")/../.."

darkroom=$(realpath "${1:-target/release/darkroom}")
folder=$(mktemp -d)
fleet=
collector=

end() {
    status=$?
    [ -z "$collector" ] || kill "$collector" 2>/dev/null || true
    if [ -n "$fleet" ]; then
        kill "$fleet" 2>/dev/null || true
        wait "$fleet" || { echo "darkroom up did not stop cleanly" >&2; status=1; }
        [ "$status" = 0 ] || cat "$folder/fleet.log" >&2
    fi
    rm -rf "$folder"
    exit "$status"
}
trap end EXIT
# Without these a signal would end the script with the status of the last command that succeeded.
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say() { printf '%s\n' "-- $*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

for tool in prometheus promtool; do
    command -v "$tool" >/dev/null || fail "$tool is missing: install prometheus (Debian: apt-get install prometheus)"
done
. tests/outside/tools.sh
outside_tools

say "invisible-watermark: it reads Darkroom's pictures as often as its own"
sign=$(dirname "$darkroom")/examples/sign
[ -x "$sign" ] || fail "$sign is missing: cargo build --release --example sign"
python tests/outside/watermark.py "$sign"

say "buf: the contract keeps its rules"
(cd proto && buf lint)

say "darkroom up, with a collector of traces"
base=$(python tests/outside/free_ports.py)
python tests/outside/traces.py "$folder/collector" >"$folder/trace" 2>&1 &
collector=$!
for _ in $(seq 100); do
    [ -s "$folder/collector" ] && break
    sleep 0.1
done
DARKROOM_OTLP_ENDPOINT=http://127.0.0.1:$(cat "$folder/collector") OTEL_BSP_SCHEDULE_DELAY=500 \
    "$darkroom" up --port-base "$base" >"$folder/ready" 2>"$folder/fleet.log" &
fleet=$!
for _ in $(seq 600); do
    grep -q '^ready: ' "$folder/ready" && break
    kill -0 "$fleet" 2>/dev/null || fail "darkroom up ended before it was ready"
    sleep 0.1
done
cat "$folder/ready"
grep -q '^ready: ' "$folder/ready" || fail "darkroom up was not ready within a minute"

# A service's gRPC port is the base plus its number here; its HTTP port is 1000 above.
services=(ImageGeneration TextEncoder Vae Denoiser)

say "grpcurl: every service tells of itself by reflection and answers"
for number in "${!services[@]}"; do
    name=darkroom.v1.${services[number]} address=127.0.0.1:$((base + number))
    listed=$(grpcurl -plaintext -max-time 10 "$address" list)
    for expected in "$name" grpc.health.v1.Health; do
        grep -qxF "$expected" <<<"$listed" || fail "$address lists no $expected: $listed"
    done
    description=$(grpcurl -plaintext -max-time 10 "$address" describe "$name")
    grep -q 'rpc ' <<<"$description" || fail "$address describes no call of $name"
    grpcurl -plaintext -max-time 10 -d "{\"service\": \"$name\"}" "$address" grpc.health.v1.Health/Check | grep -q SERVING \
        || fail "$name is not healthy"
    methods=(GetInfo)
    [ "$number" = 0 ] && methods=(ListModels GetServerInfo)
    for method in "${methods[@]}"; do
        answer=$(grpcurl -plaintext -max-time 10 "$address" "$name/$method")
        grep -q pocket <<<"$answer" || fail "$name/$method names no model: $answer"
        echo "$name/$method: $(tr -d '\n' <<<"$answer" | tr -s ' ' | cut -c1-100)…"
    done
done

say "grpcio: a client made from the protos draws a picture"
python -m grpc_tools.protoc -I proto --python_out="$folder" --grpc_python_out="$folder" proto/darkroom/v1/*.proto
PYTHONPATH=$folder python tests/outside/generate.py "127.0.0.1:$base"

say "OpenTelemetry: a collector has the picture's whole trace"
wait "$collector" || fail "$(cat "$folder/trace")"
collector=
cat "$folder/trace"

say "promtool: every page of metrics is clean"
for number in "${!services[@]}"; do
    python -c 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' \
        "http://127.0.0.1:$((base + number + 1000))/metrics" >"$folder/metrics"
    promtool check metrics <"$folder/metrics" || fail "the metrics of ${services[number]} are not clean"
done

say "Prometheus: it scrapes all four; queries, rules and every panel of the dashboards find what they did"
python tests/outside/prometheus.py "$base" "$darkroom"
