#!/usr/bin/env bash
# Cargo's wrapper of rustc, set by run.sh. cargo-fuzz gives its flags to every crate; coverage, AddressSanitizer and debug assertions
# stay where an input's path is decided, and what is only linked, or computes on numbers alone, builds in half of the time without.
set -euo pipefail

case ${CARGO_PKG_NAME-} in
    darkroom-kernels | darkroom-stage-kit) ;;
    darkroom-* | arbitrary | flate2 | libfuzzer-sys | miniz_oxide | prost | safetensors | serde_json | tokenizers | toml | \
        toml_parser | winnow | zip | zlib-rs) exec "$@" ;;
esac

kept=()
for argument; do
    case $argument in
        -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-* | -Zsanitizer=* | -Cdebug-assertions) ;;
        *) kept+=("$argument") ;;
    esac
done
exec "${kept[@]}"
