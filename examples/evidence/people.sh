#!/usr/bin/env bash
# The backbones of docs/protocol.md and their twins with random weights; the same command resumes.
# Usage: examples/evidence/people.sh DATA ROOT [HALF...]
#   DATA   a folder with people/eegmat/*.edf, eegmmidb/*.edf and chbmit/edf/*.edf
#   ROOT   where results go: 12 backbones, about 17 minutes of one core each
#   HALF   0 or 1: only the backbones that do not learn from that half of EEGMAT, so that two processes can share the work
# Then: people.py makes features, heads and tables of them.
set -euo pipefail
data=$(realpath "$1") root=$2
shift 2
. "$(dirname "$0")/people_recordings.sh"

[ $# -gt 0 ] || set -- 0 1
numbers=(01 02 03 04 07 08 09 10 11 14 15 16 17 18 19 20 21 24 25 26 27 30 31 33)
for half; do
  tested=$(for ((k = half; k < 24; k += 2)); do printf 'Subject%s,' "${numbers[k]}"; done)
  out="windows.leave_out=[${tested%,}]"
  filter=$(python "$(dirname "$0")/../whitening_filter.py" $people "root=$root" "$out")
  for seed in 0 1 2; do for input in whitened raw; do
    shown=("$filter")
    [ $input = whitened ] || shown=(signal.mu=255 signal.spread=null signal.whiten=null)
    learn() { eegdm pretrain $people "root=$root/$1" "recordings=$recordings" "seed=$seed" "$out" "${shown[@]}" "${@:2}"; }
    learn "twin-$input-without$half-seed$seed" pretrain.epochs=0
    learn "$input-without$half-seed$seed"
  done; done
done
