#!/usr/bin/env bash
# The results table on made-up EEG, subjects never seen: three seeds for the rows that carry a claim, one for the others. Resumable.
# Usage: examples/evidence/table.sh ROOT [SETTINGS...]
set -euo pipefail
root=$1
shift
for table in main fusion; do
  eegdm reproduce $table corpus=synthetic --size small "root=$root" seed=0,1,2 "$@"
done
for table in steps pooling layers sampling_rate mu_law_schedule_noise; do
  eegdm reproduce $table corpus=synthetic --size small "root=$root" seed=0 "$@"
done
