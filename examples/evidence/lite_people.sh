#!/usr/bin/env bash
# Backbones of recipe `lite`'s size for lite_people.py, made as people.sh makes its own; the same command resumes.
# Usage: examples/evidence/lite_people.sh DATA ROOT
set -euo pipefail
data=$(realpath "$1") root=$2
. "$(dirname "$0")/people_recordings.sh"

tested=Subject01,Subject03,Subject07,Subject09,Subject11,Subject15,Subject17,Subject19,Subject21,Subject25,Subject27,Subject31
for seed in 0 1 2; do
  eegdm pretrain $people "root=$root/lite-raw-without0-seed$seed" "recordings=$recordings" "seed=$seed" \
    "windows.leave_out=[$tested]" signal.mu=255 signal.spread=null signal.whiten=null backbone.n_blocks=3
done
