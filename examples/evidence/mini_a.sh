#!/usr/bin/env bash
# The backbone of the evidence on one person, `mini_a`, which has seen runs 3-8 of eegmmidb alone, and recordings that it has never seen.
# Usage: examples/evidence/mini_a.sh DATA ROOT [SETTINGS...]
#   DATA      a folder with eegmmidb/*.edf (PhysioNet, subject 1, runs 3-10) and chbmit/edf/*.edf (excerpts of CHB-MIT)
#   ROOT      where results go; the same command resumes a killed run
#   SETTINGS  such as device=cuda or pretrain.epochs=1000
set -euo pipefail
data=$(realpath "$1") root=$2
shift 2
mkdir -p "$root/links/a" "$root/links/held-out"
for run in 03 04 05 06 07 08; do ln -sfn "$data/eegmmidb/S001R$run.edf" "$root/links/a/S001R$run.edf"; done
for run in 09 10; do ln -sfn "$data/eegmmidb/S001R$run.edf" "$root/links/held-out/S001R$run.edf"; done

prepare() { eegdm preprocess corpus=folder recipe=mini_a "root=$root/$1" "source=$2" events=none 'corpus.pattern=(?P<subject>S[0-9]+|chb[0-9]+)'; }
prepare mini_a "$root/links/a" && eegdm pretrain corpus=folder recipe=mini_a "root=$root/mini_a" seed=0 "$@"
prepare held-out "$root/links/held-out"
prepare chbmit "$data/chbmit/edf"
