#!/usr/bin/env bash
# A fleet of processes whose network is cut, whose versions change and whose alerts ring, each played in network, mount and process
# namespaces of its own: nothing of it is seen from outside, and all of it ends with the script, however that ends.
#
#   tests/faults/run.sh [PATH OF THE darkroom PROGRAM] [network | rolling | alerting | apart]…
#
# The program is target/release/darkroom if none is named, with the services beside it; without a name the first three are played; `apart` is
# `network` with one stage cut off at a time. Needs root, Python 3 with venv, iproute2, nftables, prometheus, prometheus-alertmanager.
# Exit codes: 0 all holds, 77 namespaces are not to be had, so nothing was tried, else something does not hold.
#
# Environment: DARKROOM_CACHE, a folder for tools (default: darkroom-checks in the user's cache folder).
set -euo pipefail
cd "$(dirname "$0")/../.."

darkroom=target/release/darkroom
case ${1:-} in */* | darkroom) darkroom=$1 && shift ;; esac
darkroom=$(realpath "$darkroom")
plays=("$@")
[ $# -gt 0 ] || plays=(network rolling alerting)

isolated=(unshare --net --mount --pid --fork --kill-child --mount-proc)
if ! "${isolated[@]}" true 2>/dev/null; then
    echo "skipped: this machine, or this user, may have no namespaces (${isolated[*]} true)" >&2
    exit 77
fi
. tests/outside/tools.sh
outside_tools
for tool in ip nft prometheus prometheus-alertmanager; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: install iproute2, nftables, prometheus, prometheus-alertmanager" >&2; exit 1; }
done

folder=$(mktemp -d)
end() {
    local running
    running=$(jobs -p)
    if [ -n "$running" ]; then
        # The limit of time is what runs there, and it passes the signal on.
        kill $running 2>/dev/null || true
        wait || true
    fi
    rm -rf "$folder"
}
trap end EXIT
# Without these a signal would end the script with the status of the last command that succeeded.
trap 'exit 130' INT
trap 'exit 143' TERM HUP

python -m grpc_tools.protoc -I proto --python_out="$folder" --grpc_python_out="$folder" proto/darkroom/v1/*.proto
export PYTHONPATH=$folder PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# begin NAME: names of network namespaces and an /etc/hosts of its own live as long as the play does. In the background, as a shell
# hears no signal while it is in something else.
begin() {
    local script=$1 options=()
    if [ "$1" = apart ]; then script=network options=(--apart); fi
    mkdir "$folder/$1"
    timeout --kill-after 5 300 "${isolated[@]}" sh -c 'mount -t tmpfs none /run && ip link set lo up && exec "$@"' - \
        python "tests/faults/$script.py" "$(dirname "$darkroom")" "$folder/$1" "${options[@]}" &
}

# Alerts are mostly waited for, so they are played beside the others; what they say comes when they are done.
beside=
if [[ " ${plays[*]} " == *" alerting "* ]]; then
    begin alerting >"$folder/alerting.out" 2>&1
    beside=$!
fi
for play in "${plays[@]}"; do
    [ "$play" != alerting ] || continue
    echo "-- $play"
    begin "$play"
    wait $!
done
if [ -n "$beside" ]; then
    echo "-- alerting"
    status=0
    wait "$beside" || status=$?
    cat "$folder/alerting.out"
    exit "$status"
fi
