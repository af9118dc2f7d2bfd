#!/usr/bin/env bash
# The published run: 128 GPUs with 32 images each, on machines HOSTS; with fewer GPUs, --accumulate_steps fills up:
#     HOSTS=server1:8,…,server16:8 example/ml_images_128_gpus.sh --data_dir=… --model_dir=…
#     HOSTS=server1:8,server2:8 example/ml_images_128_gpus.sh --data_dir=… --model_dir=… --accumulate_steps=8
# --dry_run shows its batch, schedule, memory and communication, and trains nothing.
set -euo pipefail
here=$(dirname "$0")
exec "$here/many_machines.sh" --flagfile="$here/ml_images.flags" "$@"
