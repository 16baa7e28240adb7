#!/usr/bin/env bash
# What must be known of EEGDM on a GPU, in about ten minutes: does it compute the same there, how fast, with how much memory?
# Usage: examples/gpu_check.sh OUT [DEVICE [--smoke]]
#   OUT      folder of the results: results.json and .md, and the log of each step; what is known is kept if the time is up
#   DEVICE   cuda (default), mps or cpu
#   --smoke  tiny models: a rehearsal on any machine
# Steps that would begin after nine minutes are left out and listed.
set -uo pipefail
out=${1:?say where results go} device=${2:-cuda} smoke=${3:-}
mkdir -p "$out"
rm -f "$out/steps.tsv"
here=$(dirname "$0")
export PYTHONPATH=$(cd "$here/.." && pwd)${PYTHONPATH:+:$PYTHONPATH}  # for `benchmarks`

step() {  # NAME COMMAND...: run it, and write what it took and how it ended
  local name=$1 begun=$EPOCHREALTIME status=left_out
  shift
  if [ $SECONDS -lt 540 ]; then
    echo "== $name: $*"
    "$@" > "$out/$name.log" 2>&1
    status=$?
    [ $status = 0 ] || tail -n 5 "$out/$name.log"
  fi
  printf '%s\t%s\t%s\n' "$name" "$status" "$(echo "$EPOCHREALTIME $begun" | awk '{printf "%.2f", $1 - $2}')" >> "$out/steps.tsv"
}

# Equality first, then what the throughput of each stage is bounded by
step agreement python -m benchmarks --device "$device" --only agreement --out "$out/agreement" $smoke
step benchmarks python -m benchmarks --device "$device" --only latents,pretraining,logits,generation,compiled --out "$out/benchmarks" $smoke

# The stages at full size on little data, in both precisions; then what a user does with the result
words=(corpus=synthetic recipe=base pretrain.max_windows=64 pretrain.epochs=2 finetune.epochs=2)
[ -z "$smoke" ] || words+=(backbone.n_blocks=2 backbone.d_model=8 backbone.d_state=4 pretrain.max_windows=4 diffusion.n_steps=10 corpus.n_train=5 corpus.n_eval=2 corpus.minutes=1.2)
words+=("device=$device")
for stage in preprocess pretrain cache finetune report; do
  step "$stage" eegdm $stage "${words[@]}" "root=$out/runs"
done
step pretrain-bf16 eegdm pretrain "${words[@]}" "root=$out/bf16" "recordings=$out/runs/synthetic/base/recordings" precision=bf16-mixed
step finetune-bf16 eegdm finetune "${words[@]}" "root=$out/runs" seed=1 precision=bf16-mixed
classifier=$out/runs/synthetic/base/classifier/seed=0
recording=$(find "$out/runs" -name '*.edf' | sort | head -n 1)
for where in cpu "$device"; do
  step "predict-$where" eegdm predict "$recording" --model "$classifier" --device "$where" --out "$out/predicted-$where" --no-report
done
step embed eegdm embed "$recording" --model "$classifier" --device "$device" --out "$out/embeddings.npz"
step generate eegdm generate --model "$classifier" -n 4 --device "$device" --out "$out/generated_raw.fif"

python "$here/gpu_check.py" "$out" "$device"
