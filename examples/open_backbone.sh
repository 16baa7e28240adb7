#!/usr/bin/env bash
# A backbone from open recordings alone (ODC-By 1.0): EEGMAT, eegmmidb and two patients of CHB-MIT are downloaded, prepared by recipe
# `people` and learned from in the hours that are given; 12 people of EEGMAT are left out, and the backbone is evaluated on them.
# Usage: examples/open_backbone.sh DATA OUT [device=cuda] [hours=N] [SETTINGS...]
#   DATA      a folder for the recordings alone: 6 GB
#   OUT       where results go; a killed run goes on when the same command is given again
#   hours     for pretraining and evaluation, 8 by default: how many epochs this makes is measured once and kept in OUT/epochs
#   SETTINGS  of pretrain, such as pretrain.max_windows=100000; pretrain.epochs=N is the maximum
# Environment: PHYSIONET (address of a mirror); EEGMAT, EEGMMIDB, CHBMIT (people, separated by commas; empty: all); LEFT_OUT (of EEGMAT)
set -euo pipefail
data=$1 out=$2
shift 2
hours=8 device=auto most=() settings=()
for word in "$@"; do
  case $word in
    hours=*) hours=${word#*=} ;;
    device=*) device=${word#*=} ;;
    pretrain.epochs=*) most=("$word") ;;
    *) settings+=("$word") ;;
  esac
done
examples=$(dirname "$0")
# Of CHB-MIT, two of the shortest patients whose channels never change, from its published training part: 46 h beside 49 h of eegmmidb.
chbmit=${CHBMIT-chb08,chb14}
# The people of EEGMAT on whom docs/protocol.md does not rest
left_out=${LEFT_OUT-Subject00,Subject05,Subject06,Subject12,Subject13,Subject22,Subject23,Subject28,Subject29,Subject32,Subject34,Subject35}

download() { # corpus, its people
  eegdm download "$1" --out "$data/$1" --base-url "${PHYSIONET:-https://physionet.org/files}/$1/1.0.0/" ${2:+--subjects "$2"}
}
download eegmat "${EEGMAT-}"
download eegmmidb "${EEGMMIDB-}"
download chbmit "$chbmit"

run=(corpus=folder recipe=people "root=$out")
people='corpus.pattern=(?P<subject>Subject\d+|S\d+(?=R)|chb\d+)'
eegdm preprocess "${run[@]}" "source=$data" events=none "$people"

learn=("${run[@]}" "windows.leave_out=[$left_out]" ${settings[@]+"${settings[@]}"})
keep() { # a file, and the command that prints what stands in it
  [ -f "$1" ] || { "${@:2}" > "$1.part" && mv "$1.part" "$1"; }
}
keep "$out/whiten" python "$examples/whitening_filter.py" "${learn[@]}"
learn+=("$(cat "$out/whiten")" "device=$device")
keep "$out/epochs" python "$examples/epochs_that_fit.py" "$hours" "${learn[@]}" ${most[@]+"${most[@]}"}
command=(eegdm pretrain "${learn[@]}" "$(cat "$out/epochs")" seed=0)
printf '%q ' "${command[@]}" > "$out/command"
cat "$out/command" && echo
"${command[@]}"

test=$out/left-out
mkdir -p "$test"
echo file,label,subject > "$test/labels.csv"
for who in ${left_out//,/ }; do
  ln -sfn "$(realpath "$data")/eegmat/${who}_1.edf" "$(realpath "$data")/eegmat/${who}_2.edf" "$test"
  printf '%s\n' "${who}_1.edf,rest,$who" "${who}_2.edf,arithmetic,$who" >> "$test/labels.csv"
done
eegdm evaluate "$test" --table "$test/labels.csv" --model "$out/folder/people/backbone" --missing drop --device "$device" \
  --out "$out/evaluation"
