#!/usr/bin/env bash
# The results table on made-up EEG, subjects never seen: three seeds for the rows that carry a claim, one for the others. Resumable.
# Usage: examples/evidence/table.sh ROOT [SETTINGS...]
# Left out, for on two cores each takes hours: `no_fusion` (attention over all 880 tokens of a window, twelve layers deep) and `noise` (tokens
# computed anew in every epoch). `eegdm reproduce fusion` and `eegdm reproduce mu_law_schedule_noise` with the same words add them.
set -euo pipefail
root=$1
shift
table() { eegdm reproduce "$1" corpus=synthetic --size small "root=$root" pretrain.epochs=6 "${@:2}"; }
table main seed=0,1,2 "$@"
table fusion --only base,mean_fusion seed=0,1,2 "$@"
for name in steps pooling layers sampling_rate; do table $name seed=0 "$@"; done
table mu_law_schedule_noise --only base,nolaw,linear seed=0 "$@"
