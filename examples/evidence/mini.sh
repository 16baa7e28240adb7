#!/usr/bin/env bash
# The backbones of the evidence on real EEG: `mini`, trained on all open recordings, and `mini_a`, which has seen runs 3-8 of eegmmidb alone.
# Usage: examples/evidence/mini.sh DATA ROOT [SETTINGS...]
#   DATA      a folder with eegmmidb/*.edf (PhysioNet, subject 1, runs 3-10) and chbmit/edf/*.edf (excerpts of CHB-MIT)
#   ROOT      where results go; a killed run goes on when the same command is given again
#   SETTINGS  such as device=cuda or pretrain.epochs=1000
# Then: package_mini.py puts ROOT/mini/folder/mini/backbone into the package, as src/eegdm/weights/mini.
set -euo pipefail
data=$(realpath "$1") root=$2
shift 2
mkdir -p "$root/links/a" "$root/links/held-out"
for run in 03 04 05 06 07 08; do ln -sfn "$data/eegmmidb/S001R$run.edf" "$root/links/a/S001R$run.edf"; done
for run in 09 10; do ln -sfn "$data/eegmmidb/S001R$run.edf" "$root/links/held-out/S001R$run.edf"; done

people="corpus.pattern='(?P<subject>S[0-9]+|chb[0-9]+)'"
prepare() { eegdm preprocess corpus=folder "recipe=$1" "root=$root/$2" "source=$3" events=none "$people"; }
learn() { eegdm pretrain corpus=folder "recipe=$1" "root=$root/$2" seed=0 "${@:3}"; }
prepare mini mini "$data" && learn mini mini "$@"
prepare mini_a mini_a "$root/links/a" && learn mini_a mini_a "$@"
# what mini_a has never seen
prepare mini_a held-out "$root/links/held-out"
prepare mini_a chbmit "$data/chbmit/edf"
