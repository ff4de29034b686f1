#!/usr/bin/env bash
# Writes the plain manifests beside this script, for those without helm: the chart with two of its sets of values, in the namespace darkroom.
#
#   deploy/kubernetes/render.sh [HELM]            writes them
#   deploy/kubernetes/render.sh --check [HELM]    fails when they are not what the chart makes
set -euo pipefail
cd "$(dirname "$0")"

check=
if [ "${1:-}" = --check ]; then check=yes; shift; fi
helm=${1:-helm}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for name in cpu gpu-keda; do
    {
        cat <<HEAD
# Made by deploy/kubernetes/render.sh from deploy/helm/darkroom with ci/$name-values.yaml. Change those, not this.
apiVersion: v1
kind: Namespace
metadata:
  name: darkroom
  labels:
    pod-security.kubernetes.io/enforce: restricted
HEAD
        # Nobody's release: the labels that say so, and the templates' names, go.
        # Dashboards are long, and Grafana takes them as they lie in deploy/dashboards.
        "$helm" template darkroom ../helm/darkroom --namespace darkroom --values "../helm/darkroom/ci/$name-values.yaml" \
            --set monitoring.dashboards.enabled=false 2>"$folder/told" \
            | sed -E '/^ *(app\.kubernetes\.io\/managed-by: Helm|helm\.sh\/chart: .*)$/d; /^# Source: /d' | cat -s \
            || { cat "$folder/told" >&2; exit 1; }
    } >"$folder/$name.yaml"
    if [ -n "$check" ]; then
        diff -u "$name.yaml" "$folder/$name.yaml" || { echo "deploy/kubernetes/$name.yaml is old: run deploy/kubernetes/render.sh" >&2; exit 1; }
    else
        cp "$folder/$name.yaml" "$name.yaml"
    fi
done
