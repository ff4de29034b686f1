#!/usr/bin/env bash
# Does the code behind `--features cuda` compile? Type-checks the workspace on a machine that needs neither a GPU nor CUDA.
#
# The toolkit comes from NVIDIA's Python wheels. Kernels are not compiled: a wrapper hands the build scripts empty objects and
# empty PTX, which is enough to check Rust code and never enough to run it. That is why this has a target folder of its own.
#
# Environment: DARKROOM_CACHE, where the wheels and the build are kept (default: darkroom-checks in the user's cache folder).
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${DARKROOM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/darkroom-checks}/cuda
# cudarc knows the toolkit up to 13.0's headers, so the wheels are pinned to it.
wheels=(
    nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88
    nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand==10.4.0.35
)

mkdir -p "$cache"
if [ "$(cat "$cache/wheels" 2>/dev/null)" != "${wheels[*]}" ]; then
    rm -rf "$cache/toolkit"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target "$cache/toolkit" "${wheels[@]}"
    echo "${wheels[*]}" >"$cache/wheels"
fi

# Answers each compilation with an empty result; questions such as --version, and the making of archives, go to the real nvcc.
cat >"$cache/nvcc" <<'WRAPPER'
#!/usr/bin/env bash
kind= output= folder=. source= previous=
for argument in "$@"; do
    case $previous in
        -o) output=$argument ;;
        --output-directory) folder=$argument ;;
    esac
    case $argument in
        -c) kind=object ;;
        --ptx) kind=ptx ;;
        *.cu) source=$argument ;;
    esac
    previous=$argument
done
case $kind in
    object) exec cc -x c -c /dev/null -o "$output" ;;
    ptx) : >"$folder/$(basename "$source" .cu).ptx" ;;
    *) exec "$CUDA_HOME/bin/nvcc" "$@" ;;
esac
WRAPPER
chmod +x "$cache/nvcc"

export CUDA_HOME=$cache/toolkit/nvidia/cu13
export NVCC=$cache/nvcc PATH=$CUDA_HOME/bin:$PATH CUDA_COMPUTE_CAP=90 CARGO_TARGET_DIR=$cache/target
cargo check --locked --package darkroom --features cuda
