#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds, checks and times the CUDA kernels in one go.
#
#   run_kernels.sh build DIR          compile into DIR (nvcc; no GPU needed): cuda_check and libcuda_compare.so
#   run_kernels.sh emulate DIR        compile for the CPU emulation into DIR (CUDA's headers; no GPU needed)
#   run_kernels.sh run DIR [OUT]      check, then time beside PyTorch's kernels; logs under OUT
#   run_kernels.sh sanitize DIR [OUT] small cases under compute-sanitizer's tools, one after the other: alone on the GPU
#
# Every program runs under a time limit, so that one that hangs does not take the rest with it.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
what=$1 dir=$2
out=${3:-$dir}
arch=${RINGX_ARCH:-arch=compute_90a,code=sm_90a}
mkdir -p "$dir" "$out"

core() {
    for c in status shape mask layout names; do
        cc -std=gnu17 -O2 -fPIC -D_GNU_SOURCE -I"$root/src" -I"$root/include" -c "$root/src/core/$c.c" -o "$dir/core_$c.o"
    done
}

case $what in
build)
    core
    ls "$root"/src/kernel/cuda_*.cu "$root"/tests/kernel/cuda_*.cu | xargs -P "${JOBS:-2}" -I{} sh -c '
        nvcc -std=c++17 -O3 -lineinfo -gencode='"$arch"' -Xptxas -v -I'"$root"'/src -I'"$root"'/include \
            -Xcompiler -fPIC,-Wall,-Wextra -c {} -o '"$dir"'/$(basename {} .cu).o > '"$dir"'/$(basename {} .cu).log 2>&1 ||
            { cat '"$dir"'/$(basename {} .cu).log; exit 255; }'
    nvcc -cudart static -o "$dir/cuda_check" "$dir"/*.o
    nvcc -cudart static -shared -o "$dir/libcuda_compare.so" "$dir"/*.o
    # wgmma that the compiler serialises (C75xx) is a defect: say so
    grep -l 'C75[0-9][0-9]' "$dir"/*.log && exit 1 || true
    ;;
emulate)
    core
    cuda=${CUDA_HOME:-/usr/local/cuda}
    ls "$root"/src/kernel/cuda_*.cu "$root/tests/kernel/cuda_check.cu" "$root/tests/kernel/cuda_emulate.cc" |
        xargs -P "${JOBS:-2}" -I{} sh -c '
        c++ -std=c++17 -O2 -DRINGX_EMULATE -I'"$root"'/src -I'"$root"'/include -I'"$root"'/tests -I'"$cuda"'/include \
            -Wall -Wno-attributes -Wno-maybe-uninitialized -Wno-unknown-pragmas -Wno-unused-function -x c++ -c {} \
            -o '"$dir"'/$(n=$(basename {}); echo ${n%.*}).o || exit 255'
    c++ -o "$dir/cuda_emulate" "$dir"/*.o
    ;;
run)
    cd "$dir"
    for kernel in cuda-ref cuda-mma cuda-sm90; do
        timeout 100 ./cuda_check check $kernel "${CASES:-60}" "${SEED:-$(date +%s)}" > "$out/check-$kernel.txt" 2>&1 ||
            echo "$kernel: exit $?"
        tail -n 4 "$out/check-$kernel.txt"
    done
    for shape in ${SHAPES:-0 1 2 3 4}; do
        timeout 60 ./cuda_check time cuda-sm90 "$shape" || echo "shape $shape: exit $?"
    done | tee "$out/time-cuda-sm90.txt"
    timeout 200 python3 "$root/bench/kernel_compare.py" ./libcuda_compare.so --shapes 0,1,2,3,4 --csv "$out/sm90.csv" |
        tee "$out/compare-sm90.txt"
    timeout 100 python3 "$root/bench/kernel_compare.py" ./libcuda_compare.so --kernel cuda-mma --shapes 0,1,3 \
        --against fa2 --csv "$out/mma.csv" | tee "$out/compare-mma.txt"
    ;;
sanitize)
    # small cases of head_dim 48, 64, 96, 128 and others: causal and full, ranks, documents, softcap, dropout, ordered,
    # ended; one process for them all, which takes long to start
    for tool in ${TOOLS:-memcheck racecheck initcheck synccheck}; do
        for kernel in cuda-sm90 cuda-mma; do
            log=$out/$tool-$kernel.txt
            CUDA_CHECK_UNDER_TOOL=1 CUDA_CHECK_VERBOSE=1 timeout "${LIMIT:-200}" compute-sanitizer --tool "$tool" \
                --error-exitcode 9 "$dir/cuda_check" check "$kernel" "${CASES:-8}" "${SEED:-7910}" > "$log" 2>&1 &&
                code=0 || code=$?
            echo "$tool $kernel: exit $code, $(grep -c '^seed' "$log") cases begun, $(grep SUMMARY "$log" || echo 'no summary')"
        done
    done | tee "$out/sanitize.txt"
    ;;
*)
    echo "usage: run_kernels.sh build|emulate|run|sanitize DIR [OUT]" >&2
    exit 2
    ;;
esac
