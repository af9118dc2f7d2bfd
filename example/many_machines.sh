#!/usr/bin/env bash
# Trains on several machines, HOSTS with their numbers of GPUs; everything after the name goes to train.py:
#     HOSTS=server1:8,server2:8 example/many_machines.sh --flagfile=example/ml_images.flags --data_dir=… --model_dir=…
# This folder with its .venv must have the same path on all machines, and ssh between them must need no password.
# MPIRUN_FLAGS are more flags of mpirun, such as "--mca btl_tcp_if_include eth0 -x NCCL_SOCKET_IFNAME=eth0".
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bin=${VENV:-$root/.venv}/bin
[ -x "$bin/mpirun" ] || { echo "error: there is no $bin/mpirun; run \`make horovod\` first" >&2; exit 1; }
[ -n "${HOSTS:-}" ] || { echo "error: say where, as in HOSTS=server1:8,server2:8 $0 …" >&2; exit 1; }
processes=0
for host in ${HOSTS//,/ }; do
    case $host in *:*) processes=$((processes + ${host##*:})) ;; *) processes=$((processes + 1)) ;; esac
done
# Processes are not bound to a core each: each has threads that decode images.
# shellcheck disable=SC2086
exec "$bin/mpirun" -np "$processes" -H "$HOSTS" --bind-to none --map-by slot -x PATH -x LD_LIBRARY_PATH \
    ${MPIRUN_FLAGS:-} "$bin/python" "$root/train.py" "$@"
