#!/bin/bash
# SPDX-License-Identifier: MIT
# What overlap_comm hides: two MPI processes on one core each, with a link between them that is slowed down to RATE, sum
# their gradients after backward and beside it, in turn.  Needs root, util-linux and iproute2: the link is the loopback of
# a network of their own.
#   bench/train_overlap.sh BUILD OUT      RATE (800mbit), STEPS (10), PAIRS (3), STAGE of ZeRO (1)
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -eq 2 ]] || { sed -n '3,6s/^# \{0,1\}//p' "$0" >&2 && exit 64; }
build=$1 out=$2 gpt=$1/apps/ringx-gpt steps=${STEPS:-10}
mkdir -p "$out"
if [[ ! -e $out/words_text_document.idx ]]; then
    awk 'BEGIN { srand(1); for (i = 0; i < 100000; i++) printf "%d%s", 1e6 * rand(), i % 20 ? " " : "\n" }' \
        >"$out/words.txt"
    "$gpt" preprocess --input "$out/words.txt" --output-prefix "$out/words" --tokenizer-type CharLevelTokenizer >/dev/null
fi

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,self OMPI_MCA_btl_tcp_if_include=lo
printf '%-14s %12s %20s %22s\n' overlap_comm 'ms a step' 'ms waiting for sums' loss
for pair in $(seq "${PAIRS:-3}"); do
    for overlap in false true; do
        log=$out/overlap-$overlap-$pair.txt
        # shellcheck disable=SC2016
        unshare --net bash -c 'ip link set lo up && tc qdisc add dev lo root tbf rate "$0" burst 256kb latency 100ms &&
            exec "$@"' "${RATE:-800mbit}" scripts/mpirun "$build" 2 "$gpt" train -d apps/gpt/configs laptop-10m --set \
            "data_path=$out/words_text_document" split=100,0,0 vocab_size=512 seq_length=256 max_position_embeddings=256 \
            train_micro_batch_size_per_gpu=1 "train_iters=$steps" "log_interval=$steps" eval_interval=0 eval_iters=0 \
            save=null load=null tensorboard_dir=null wall_clock_breakdown=true "zero_optimization.stage=${STAGE:-1}" \
            zero_optimization.reduce_bucket_size=1000000 "zero_optimization.overlap_comm=$overlap" >"$log" 2>&1 ||
            { tail -n 3 "$log" >&2 && exit 1; }
        awk -v overlap="$overlap" -v steps="$steps" '
            /elapsed time per iteration/ { match($0, /\(ms\): [0-9.]+/); ms = substr($0, RSTART + 6, RLENGTH - 6)
                                           match($0, /lm_loss: [^ ]+/); loss = substr($0, RSTART + 9, RLENGTH - 9) }
            /backward-allreduce/ { match($0, /allreduce: [0-9.]+/); waits = substr($0, RSTART + 11, RLENGTH - 11) }
            END { printf "%-14s %12.1f %20.1f %22s\n", overlap, ms, waits / steps, loss }' "$log"
    done
done
