#!/usr/bin/env bash
# Installs Horovod 0.28.1 into a virtual environment that has TensorFlow:  setup/horovod/install.sh .venv
# The first time it is built (minutes); the wheel is kept in the user's cache, under the versions that it is built for.
# With GPU=1 it is built for CUDA and NCCL; HOROVOD_CUDA_HOME and HOROVOD_NCCL_HOME say where they are.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
venv=$(cd "${1:?usage: setup/horovod/install.sh FOLDER_OF_THE_VIRTUAL_ENVIRONMENT}" && pwd)
export PATH=$venv/bin:$PATH
pip() { python -m pip --disable-pip-version-check "$@"; }
fail() { echo "error: $*" >&2; exit 1; }

gpu=${GPU:-0}
case $gpu in 0 | 1) ;; *) fail "GPU=$gpu: leave it out, or GPU=1 for a build with CUDA and NCCL" ;; esac
if [ "$gpu" = 1 ]; then
    cuda=${HOROVOD_CUDA_HOME:-/usr/local/cuda}
    [ -x "$cuda/bin/nvcc" ] || fail "GPU=1 needs the CUDA toolkit, and there is no $cuda/bin/nvcc. Install it, or set" \
        "HOROVOD_CUDA_HOME to its folder. Without GPUs: make horovod"
    places=${HOROVOD_NCCL_HOME:-/usr /usr/local $cuda}
    for nccl in $places ""; do
        [ -f "$nccl/include/nccl.h" ] && break
    done
    [ -n "$nccl" ] || fail "GPU=1 needs NCCL, and there is no include/nccl.h in any of: $places. Install libnccl-dev" \
        "(NVIDIA's packages), or set HOROVOD_NCCL_HOME to NCCL's folder"
    export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_CUDA_HOME=$cuda HOROVOD_NCCL_HOME=$nccl
fi

pip install --progress-bar off -q -r "$here/requirements.txt"
versions=$(python - <<'EOF'
import importlib.metadata as metadata
import platform, sys
installed = {name: metadata.version(name) for name in ("tensorflow", "tensorflow-cpu") if any(metadata.distributions(name=name))}
if not installed:
    sys.exit("error: there is no TensorFlow in this environment; run `make install` first")
print(*(f"{name}-{version}" for name, version in installed.items()), f"python-{platform.python_version()}", sep="-")
EOF
)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/ml-images/horovod-0.28.1-$versions-$([ "$gpu" = 1 ] && echo gpu || echo cpu)
if ! compgen -G "$cache/horovod-*.whl" > /dev/null; then
    for tool in g++ make patch; do
        command -v "$tool" > /dev/null || fail "building Horovod needs $tool; on Debian: apt-get install g++ make patch"
    done
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.build-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "building Horovod 0.28.1 (about 6 minutes on two cores); the log is $cache/build.log"
    export HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_MPI=1
    export HOROVOD_WITH_GLOO=1 HOROVOD_CPU_OPERATIONS=MPI MAKEFLAGS="-j$(nproc)"
    if ! {
        pip download --progress-bar off --no-deps --no-build-isolation --require-hashes --no-binary=:all: \
            -r "$here/source.txt" -d "$work" &&
            tar -xzf "$work"/horovod-0.28.1.tar.gz -C "$work" &&
            patch -d "$work/horovod-0.28.1" -p1 < "$here/horovod-0.28.1.patch" &&
            pip wheel --no-deps --no-build-isolation -w "$work" "$work/horovod-0.28.1"
    } > "$cache/build.log" 2>&1; then
        tail -n 20 "$cache/build.log" >&2
        fail "Horovod could not be built; the whole log is $cache/build.log"
    fi
    mv "$work"/horovod-*.whl "$cache"
fi
pip install --progress-bar off -q --no-deps --force-reinstall "$cache"/horovod-*.whl
python -c 'import horovod.tensorflow' 2> /dev/null || fail "Horovod was installed and cannot be imported: see" \
    "python -c 'import horovod.tensorflow', or remove $cache and run this again"
