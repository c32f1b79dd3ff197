#!/usr/bin/env bash
# Train with N processes on this machine, one a GPU (or on the CPU where there is none).
#   tools/dist_train.sh CONFIG N [OPTIONS]
# Several machines: run it on each with NNODES, NODE_RANK and the first one's MASTER_ADDR (and PORT).
# MAX_RESTARTS (0): how often the processes are started again, from the last checkpoint, if one ends.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,5s/^# //p' "$0" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
address=${MASTER_ADDR:-127.0.0.1} port=${PORT:-29500}
meeting=(--node_rank="${NODE_RANK:-0}" --master_addr="$address" --master_port="$port")
if [ "${MAX_RESTARTS:-0}" -gt 0 ]; then
    # Processes that are started again meet at a new place, where they do not find addresses of those
    # that ended (PyTorch issue 135712).
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    meeting=(--rdzv_backend=c10d --rdzv_id="mmdla-$port" --rdzv_endpoint="$address:$port")
    [ "${NNODES:-1}" -gt 1 ] || meeting+=(--local_addr=127.0.0.1)
fi
"${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    "${meeting[@]}" \
    --nproc_per_node="$2" \
    --max_restarts="${MAX_RESTARTS:-0}" \
    "$here/train.py" "$1" --launcher pytorch "${@:3}"
