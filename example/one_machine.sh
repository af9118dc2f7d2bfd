#!/usr/bin/env bash
# Trains on all GPUs of this machine, or as PROCESSES processes; everything after the name goes to train.py:
#     example/one_machine.sh --flagfile=example/ml_images.flags --data_dir=… --model_dir=…
set -euo pipefail
processes=${PROCESSES:-$( (nvidia-smi --list-gpus 2> /dev/null || true) | wc -l)}
[ "$processes" -gt 0 ] || { echo "error: no GPU found; say how many processes with PROCESSES=2 $0 …" >&2; exit 1; }
HOSTS=localhost:$processes exec "$(dirname "$0")/many_machines.sh" "$@"
