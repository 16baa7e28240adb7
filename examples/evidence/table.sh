#!/usr/bin/env bash
# The results table on synthetic EEG, subjects never seen: three seeds for the rows that carry a claim, one for the others. Resumable.
# Usage: examples/evidence/table.sh ROOT [SETTINGS...]
# So that two cores make it in 90 minutes: half the blocks of `small`; two heads where fusion is compared (without fusion tokens every
# token of a window attends to every other); half the epochs for `noise`, whose tokens differ in every epoch and can't be cached; and
# these two side by side.
set -euo pipefail -m
root=$1
shift
table() { eegdm reproduce "$1" corpus=synthetic --size small "root=$root" backbone.n_blocks=4 pretrain.epochs=6 "${@:2}"; }
table main seed=0,1,2 "$@"
for name in steps pooling layers sampling_rate; do table $name seed=0 "$@"; done
table mu_law_schedule_noise --only base,nolaw,linear seed=0 "$@"
base=$root/synthetic/base
made=("recordings=$base/recordings" "backbone=$base/backbone")
export OMP_NUM_THREADS=1
table fusion seed=0,1,2 "root=$root/two_heads" "${made[@]}" "latents=$base/latents" fusion.n_heads=2 "$@" &
trap 'kill %1 2> /dev/null || true' EXIT
table mu_law_schedule_noise --only noise seed=0 "root=$root/noise" "${made[@]}" finetune.epochs=12 "$@"
wait %1
