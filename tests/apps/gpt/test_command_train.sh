#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-gpt train: killed again and again it ends with the weights of the uninterrupted run; failed and killed system
# calls of a save lose nothing; signals, bad configurations and lines that scripts parse.
#   RINGX_LONG=1: 200 kills, and every system call
set -u
: "${RINGX_GPT:?the path of ringx-gpt}" "${RINGX_TEST_DATA:?}"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
complain() {
    echo "FAILED: $1"
    [ -e "$work/output" ] && tail -3 "$work/output"
    failures=$((failures + 1))
}
long=${RINGX_LONG:-}

cat >"$work/small.yml" <<'YAML'
{
  "num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_kv_heads": 2, "intermediate_size": 64,
  "seq_length": 48, "tokenizer_type": "CharLevelTokenizer", "make_vocab_size_divisible_by": 1,
  "optimizer": {"type": "Adam", "params": {"lr": 0.003, "betas": [0.9, 0.95]}}, "gradient_clipping": 1.0,
  "lr_decay_style": "cosine", "train_micro_batch_size_per_gpu": 2, "train_iters": 30, "log_interval": 10,
  "eval_interval": 10, "eval_iters": 1, "split": "80,20,0", "data-path": "text_text_document",
  "hostfile": "None",
}
YAML
cp "$(dirname "$0")/test_command_train.sh" "$work/a.txt"
cp "$0" "$work/b.txt" && cat "$0" >>"$work/b.txt"
"$RINGX_GPT" preprocess --input "$work/a.txt" "$work/b.txt" "$work/a.txt" "$work/b.txt" "$work/a.txt" \
    --output-prefix "$work/text" --tokenizer-type CharLevelTokenizer --append-eod >"$work/output" 2>&1 ||
    complain "preprocess"
train() { # settings…
    "$RINGX_GPT" train -d "$work" small --set "$@" >"$work/output" 2>&1
}

# ---- lines, and what is said about mistakes
train "save=$work/whole" checkpoint_factor=10 keep_last_n_checkpoints=2 || complain "a plain run"
grep -Eq '^ samples/sec: [0-9.]+ \| iteration       10/      30 \| elapsed time per iteration \(ms\): [0-9.]+ \| learning rate: [0-9.E-]+ \| approx flops per GPU: [0-9.]+[KMGT]?FLOPS \| lm_loss: [0-9]\.[0-9]{6}E\+00 \| number of skipped iterations:   0 \| number of nan iterations:   0 \|$' \
    "$work/output" || complain "no line of step 10 as scripts parse it"
grep -Eq '^ validation results at iteration 30 \| lm_loss value: [0-9]\.[0-9]{6}E\+00 \| lm_loss_ppl value: [0-9.E+]+ \| $' \
    "$work/output" || complain "no validation line"
grep -q 'without effect here.*: hostfile$' "$work/output" || complain "keys without effect are not listed"
! grep -q '^time (ms)' "$work/output" || complain "timers without wall_clock_breakdown"
[ -e "$work/whole/global_step20" ] || complain "the second checkpoint is gone"
[ ! -e "$work/whole/global_step10" ] || complain "the first checkpoint is still there"
[ "$(cat "$work/whole/latest")" = global_step30 ] || complain "latest is not the last"
cmp -s "$work/small.yml" "$work/whole/global_step30/configs/small.yml" || complain "no copy of the configuration"

# ---- the log in a file too, with timers and keys that have no effect
for _ in 1 2; do
    train "log_dir=$work/logs/here" wall_clock_breakdown=true num_workers=3 train_iters=10 || complain "a run with log_dir"
done
cmp -s <(cat "$work/output") <(tail -n "$(wc -l <"$work/output")" "$work/logs/here/train.log") ||
    complain "train.log does not end with what the last run printed"
[ "$(grep -c '^time (ms) | batch generator: ' "$work/logs/here/train.log")" -eq 2 ] || complain "timers of two runs"
grep -q "^ note: key 'num_workers' has no effect here: each rank reads its own samples$" "$work/output" ||
    complain "no note on num_workers"
train log_dir=/dev/null/x
[ $? -eq 73 ] || complain "log_dir that cannot be made"

# ---- ranks as torchrun starts them: two processes are one run, and its loss is that of one rank
port=$((20000 + RANDOM % 10000))
for rank in 0 1; do
    RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port "$RINGX_GPT" train -d "$work" small --set \
        context_parallel_size=2 train_iters=10 "save=$work/pair" >"$work/rank$rank" 2>&1 &
    started[rank]=$!
done
wait "${started[0]}" && wait "${started[1]}" || complain "two ranks of the environment: $(cat "$work"/rank[01] | tail -n 2)"
grep -q '^ringx-gpt train: 2 ranks, tensor 1 × context 2 × data 1;' "$work/rank0" || complain "two ranks are not one run"
[ ! -s "$work/rank1" ] || complain "the second rank says something"
train train_iters=10
alone=$(sed -nE 's/^ validation results at iteration 10 .*lm_loss value: ([0-9.]+)E.*/\1/p' "$work/output")
pair=$(sed -nE 's/^ validation results at iteration 10 .*lm_loss value: ([0-9.]+)E.*/\1/p' "$work/rank0")
awk -v a="$alone" -v b="$pair" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < (1e-4 * a) ^ 2) }' ||
    complain "two ranks have the loss $pair, one has $alone"
[ -e "$work/pair/global_step10/rank_00001.safetensors" ] || complain "the second rank saved nothing"

refuses() { # code, words, settings…
    local code=$1 words=$2 got
    shift 2
    train "$@"
    got=$?
    [ "$got" -eq "$code" ] || complain "$*: exit code $got instead of $code"
    grep -Eq -- "$words" "$work/output" || complain "$*: no '$words'"
}
refuses 78 "unknown key 'train_itters'; did you mean 'train_iters'" train_itters=3
refuses 78 'model_parallel_size 4 does not divide num_kv_heads 2' model_parallel_size=4
refuses 78 '1 ranks are no multiple of' context_parallel_size=2
refuses 66 'nothing.idx' "data_path=$work/nothing"
refuses 78 'hidden_size is 32 there and 64' "load=$work/whole" hidden_size=64
cp "$work/text_text_document.idx" "$work/cut.idx"
cp "$work/text_text_document.bin" "$work/cut.bin"
truncate -s -3 "$work/cut.idx"
refuses 65 'cut.idx' "data_path=$work/cut"
"$RINGX_GPT" train small --plot x more.yml >"$work/output" 2>&1
[ $? -eq 64 ] || complain "files apart from each other are not a usage error"
"$RINGX_GPT" train >"$work/output" 2>&1
[ $? -eq 64 ] || complain "no configuration is not a usage error"

# ---- a signal saves, and the same command goes on
sleep_s() { sleep "0.$(printf '%03d' "$1")"; }
"$RINGX_GPT" train -d "$work" small --set "save=$work/signal" "load=$work/signal" train_iters=100000 \
    lr_decay_iters=30 >"$work/output" 2>&1 &
child=$!
sleep 0.5
kill -TERM "$child"
wait "$child"
[ $? -eq 75 ] || complain "SIGTERM does not end with 75"
grep -q 'its state is saved' "$work/output" || complain "SIGTERM does not say that all is saved"
train "save=$work/signal" "load=$work/signal" train_iters=100000 lr_decay_iters=30 exit_interval=1 ||
    complain "a stopped run does not go on"

# ---- killed at any moment
kills=0 wanted=${long:+200}
wanted=${wanted:-15}
random=12345
while [ "$kills" -lt "$wanted" ]; do
    "$RINGX_GPT" train -d "$work" small --set "save=$work/killed" "load=$work/killed" \
        checkpoint_factor=1 keep_last_n_checkpoints=2 >"$work/output" 2>&1 &
    child=$!
    random=$((random * 1103515245 % 2147483648 + 12345))
    sleep_s $((20 + random / 65536 % 180))
    if kill -9 "$child" 2>/dev/null; then kills=$((kills + 1)); fi
    wait "$child" 2>/dev/null
    code=$?
    if [ "$code" -eq 0 ]; then # done before it was killed: from the beginning, but for the last time
        [ "$kills" -ge "$wanted" ] || rm -rf "$work/killed"
    elif [ "$code" -ne 137 ]; then
        complain "a run that follows a killed one ends with $code"
        break
    fi
done
train "save=$work/killed" "load=$work/killed" checkpoint_factor=1 keep_last_n_checkpoints=2 || complain "the last piece"
cmp -s "$work/whole/global_step30/rank_00000.safetensors" "$work/killed/global_step30/rank_00000.safetensors" ||
    complain "weights after kills are not those of the uninterrupted run"

# ---- system calls of a save, killed and failed one by one: the checkpoint before is whole, or the new one is
if command -v strace >/dev/null && strace -e inject=getpid:error=EIO true 2>/dev/null; then
    step=${long:+1}
    step=${step:-3}
    rm -rf "$work/base"
    train "save=$work/base" exit_interval=1 || complain "one step"
    inject() { # syscall, how, n
        rm -rf "$work/faulty"
        cp -r "$work/base" "$work/faulty"
        ( # the shell would tell of each that is killed
            strace -f -qq -o /dev/null -e "inject=$1:$2:when=$3" "$RINGX_GPT" train -d "$work" small \
                --set "save=$work/faulty" "load=$work/base" exit_interval=2 keep_last_n_checkpoints=1 >"$work/output"
            exit $?
        ) 2>/dev/null
        code=$?
        train "load=$work/faulty" exit_interval=1 ||
            complain "after $1 number $3 with $2 (code $code) nothing is found"
        grep -Eq 'loaded .*/faulty/global_step[12]$' "$work/output" || complain "$1 number $3 with $2: nothing loaded"
    }
    while read -r call most; do
        for ((n = 1; n <= most; n += step)); do
            inject "$call" signal=KILL "$n"
            inject "$call" error=ENOSPC "$n"
        done
    done <<<"write 24
fsync 8
rename 5
mkdir 3
unlink 4
rmdir 2"
else
    echo "strace cannot inject here: system calls are not failed"
fi

[ "$failures" -eq 0 ] && echo "all as expected"
exit "$((failures > 0))"
