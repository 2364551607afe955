#!/bin/bash
# SPDX-License-Identifier: MIT
# ringx-vit: usage and refusals of train, predict and plan as a user meets them; with netCDF's ncgen at hand also runs on
# fields made here: killed again and again, stopped by a signal, resumed and predicted from.
set -u
: "${RINGX_VIT:?the path of ringx-vit}" "${RINGX_TEST_DATA:?}"
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
complain() {
    echo "FAILED: $1"
    [ -e output ] && tail -3 output
    failures=$((failures + 1))
}
refuses() { # code, words, arguments…
    local code=$1 words=$2 got
    shift 2
    "$RINGX_VIT" "$@" >output 2>&1
    got=$?
    [ "$got" -eq "$code" ] || complain "$*: exit code $got instead of $code"
    grep -Eq -- "$words" output || complain "$*: no '$words'"
}
shipped=$RINGX_TEST_DATA/../../apps/vit/configs/ViT.yaml

# ---- what is said about mistakes, and plans
refuses 64 "unknown command 'trian'; the nearest is 'train'" trian
refuses 64 "unknown option '--contxt_parallel'" train --contxt_parallel 2
refuses 78 'mp_p3' train --yaml_config "$shipped" --config mp_p3
refuses 78 "did you mean 'embed_dim'" train --yaml_config "$shipped" --config base --set embeddim=3
refuses 78 'number of ranks, 1' train --yaml_config "$shipped" --config base --context_parallel 2 --set "expdir=$work"
[ -e /dev/nvidia0 ] ||
    refuses 78 "it must be cpu" train --yaml_config "$shipped" --config short --set "expdir=$work" device=cuda
refuses 66 'data/train' train --yaml_config "$shipped" --config short --set "expdir=$work" num_iters=1
refuses 1 'a rank needs .* GiB and has 1.00' plan --yaml_config "$shipped" --config mp_emb4096 --memory 1
refuses 78 'parallel_order' plan --yaml_config "$shipped" --config mp_p2 --parallel_order tp-tp
"$RINGX_VIT" plan --yaml_config "$shipped" --config mp_emb4096_ringX --ranks 64 --context_parallel 64 --machine h200x8 \
    --json >output 2>&1 || complain "plan --json"
grep -q '"parameters": 2682646528' output || complain "the plan does not know the parameters"
for command in train predict plan import convert; do
    "$RINGX_VIT" "$command" --help >output 2>&1 || complain "$command --help"
    grep -q "usage: ringx-vit $command" output || complain "$command --help does not say its usage"
done

if ! command -v ncgen >/dev/null; then
    [ "$failures" -eq 0 ] && echo "all as expected; without ncgen there are no fields to train with"
    exit "$((failures > 0))"
fi

# ---- fields: two channels of waves, 26 steps
{
    echo 'netcdf waves { dimensions: time = 26; lat = 6; lon = 8; variables:'
    echo 'double time(time); time:units = "hours since 1996-01-05 00:00"; double lat(lat); lat:units = "degrees_north";'
    echo 'double lon(lon); lon:units = "degrees_east"; float u(time, lat, lon); u:units = "m/s";'
    echo 'float t(time, lat, lon); t:units = "K"; data:'
    awk 'BEGIN {
        printf "time ="; for (i = 0; i < 26; i++) printf "%s %d", i ? "," : "", 6 * i; print ";"
        printf "lat ="; for (i = 0; i < 6; i++) printf "%s %d", i ? "," : "", 25 + 5 * i; print ";"
        printf "lon ="; for (i = 0; i < 8; i++) printf "%s %d", i ? "," : "", 45 * i; print ";"
        for (c = 0; c < 2; c++) {
            printf "%s =", c ? "t" : "u"
            for (i = 0; i < 26 * 48; i++)
                printf "%s %.4f", i ? "," : "", 10 * c + sin(0.785 * (i % 8 - int(i / 48)) + 0.7 * (int(i / 8) % 6) + c)
            print ";"
        }
        print "}" }'
} >waves.cdl
ncgen -o waves.nc waves.cdl || complain "ncgen"
"$RINGX_VIT" import --input waves.nc:u waves.nc:t --valid-last 6 --output data >output 2>&1 || complain "import"
cat >waves.yaml <<'YAML'
waves:
  embed_dim: 16
  depth: 2
  num_heads: 2
  patch_size: 2
  img_size: [6, 8]
  n_in_channels: 2
  n_out_channels: 2
  global_batch_size: 4
  num_iters: 40
  print_steps: 5
  lr: 5e-3
  lr_schedule: cosine
  num_data_workers: 1
  expdir: ./logs
  train_data_path: ./data/train
  valid_data_path: ./data/valid
  global_means_path: ./data/stats/global_means.npy
  global_stds_path: ./data/stats/global_stds.npy
YAML
train() { # options…
    "$RINGX_VIT" train --yaml_config waves.yaml --config waves "$@" >output 2>&1
}
train --set save_path=whole --plot loss.svg --persistence || complain "a plain run does not beat persistence"
grep -Eq '^[0-9-]{10} [0-9:]{8},[0-9]{3} - root - INFO -   Avg val loss=[0-9]*\.[0-9]+$' output || complain "no validation line"
grep -q '^rank 0: epoch 7 step 4$' output || complain "no line of the last step"
[ -s loss.svg ] && [ -s logs/waves/1MP/00/out.log ] || complain "the curve or the log is missing"
[ "$(cat whole/latest)" = 7 ] || complain "latest is not the last"
"$RINGX_VIT" predict --yaml_config waves.yaml --config waves --set save_path=whole --date "1996-01-10 06:00" --steps 2 \
    --output out >output 2>&1 || complain "predict"
grep -Eq '^loss 0\.[0-9]+$' output || complain "predict prints no loss"
[ -s out/output_image.png ] && [ -s out/forecast.png ] && [ -s out/prediction.nc ] || complain "predict's files are missing"

[ -e /dev/nvidia0 ] ||
    refuses 78 'it must be cpu' predict --yaml_config waves.yaml --config waves --set save_path=whole device=cuda

# ---- weights out, in, and on from there
convert() {
    "$RINGX_VIT" convert --yaml_config waves.yaml --config waves "$@" >output 2>&1
}
convert --set save_path=whole --output weights.safetensors || complain "convert to a file"
convert --input weights.safetensors --to checkpoint --output begun || complain "convert to a checkpoint"
refuses 64 'holds checkpoints' convert --yaml_config waves.yaml --config waves --input weights.safetensors \
    --to checkpoint --output begun
refuses 66 'holds no checkpoint' convert --yaml_config waves.yaml --config waves --set save_path=none --output none.safetensors
refuses 65 'patch_embed.proj.weight has shape' convert --yaml_config waves.yaml --config waves --set patch_size=1 \
    --input weights.safetensors --output none.safetensors
convert --set save_path=begun --output again.safetensors || complain "convert back"
cmp -s weights.safetensors again.safetensors || complain "weights are not the same after a checkpoint"
loss_of() { # save_path
    "$RINGX_VIT" predict --yaml_config waves.yaml --config waves --set "save_path=$1" --sample 1 --output out \
        >output 2>&1 || complain "predict with $1"
    sed -n 's/^loss //p' output
}
[ "$(loss_of whole)" = "$(loss_of begun)" ] || complain "a prediction from the weights alone is another one"
train --set save_path=begun num_iters=5 || complain "a run that begins from weights"
grep -q '^Checkpoint loaded for rank 0 from begun/epoch_0$' output || complain "weights are not taken"
! grep -q 'start from epoch' output || complain "a run from weights alone goes on instead of beginning"
convert --set save_path=begun --output again.safetensors || complain "convert what was trained"
! cmp -s weights.safetensors again.safetensors || complain "nothing was learnt after weights were taken"

# ---- a signal saves, and the same command goes on
"$RINGX_VIT" train --yaml_config waves.yaml --config waves --set save_path=signal num_iters=1000000 >output 2>&1 &
child=$!
sleep 0.6
kill -TERM "$child"
wait "$child"
[ $? -eq 75 ] || complain "SIGTERM does not end with 75"
grep -q 'its state is saved' output || complain "SIGTERM does not say that all is saved"

# ---- killed at any moment
kills=0 random=12345
wanted=${RINGX_LONG:+100}
wanted=${wanted:-8}
while [ "$kills" -lt "$wanted" ]; do
    "$RINGX_VIT" train --yaml_config waves.yaml --config waves --set save_path=killed >output 2>&1 &
    child=$!
    random=$((random * 1103515245 % 2147483648 + 12345))
    sleep "0.$(printf '%03d' $((30 + random / 65536 % 300)))"
    if kill -9 "$child" 2>/dev/null; then kills=$((kills + 1)); fi
    wait "$child" 2>/dev/null
    code=$?
    if [ "$code" -eq 0 ]; then
        [ "$kills" -ge "$wanted" ] || rm -rf killed
    elif [ "$code" -ne 137 ]; then
        complain "a run that follows a killed one ends with $code"
        break
    fi
done
train --set save_path=killed || complain "the last piece"
cmp -s whole/epoch_7/rank_00000.safetensors killed/epoch_7/rank_00000.safetensors ||
    complain "weights after kills are not those of the uninterrupted run"

[ "$failures" -eq 0 ] && echo "all as expected"
exit "$((failures > 0))"
