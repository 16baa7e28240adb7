#!/usr/bin/env bash
# Real EEG through all five stages with recipe `small`, by the commands a user would type.
# Usage: examples/real_eeg.sh DATA [RESULTS]
#   DATA     a folder with eegmmidb/*.edf (PhysioNet, subject 1, runs 3-10) and chbmit/{index.csv,edf/*.edf} (excerpts of CHB-MIT)
#   RESULTS  where results go (default: runs/real)
set -euo pipefail
data=${1:?say where the recordings are}
results=${2:-runs/real}
here=$(dirname "$0")

# Rest (T0) against movement, executed or imagined (T1, T2); two runs are tested in each of four folds, and nothing has seen them before.
eegmmidb=(corpus=folder recipe=small "root=$results/eegmmidb")
eegdm preprocess "${eegmmidb[@]}" "source=$data/eegmmidb" events=annotations \
  "corpus.label_map={T0: rest, T1: movement, T2: movement}" "corpus.classes=[rest,movement]" "corpus.event_classes=[movement]" missing=drop
folds=(split=kfold windows.kfold_unit=run windows.n_folds=4 windows.duration_s=4 pretrain.max_windows=40)
for stage in pretrain cache finetune; do
  eegdm $stage -m "${eegmmidb[@]}" "${folds[@]}" fold=0,1,2,3
done
eegdm report "${eegmmidb[@]}" "${folds[@]}"

# Seizure against background in 28 windows of three patients: too few for a claim, enough to see every stage work.
python "$here/chbmit_excerpts.py" "$data/chbmit/index.csv" "$results/excerpts.csv"
chbmit=(corpus=folder recipe=small "root=$results/chbmit" split=subject)
eegdm preprocess "${chbmit[@]}" "source=$data/chbmit/edf" events=table "table=$results/excerpts.csv" \
  "corpus.classes=[background,seizure]" "corpus.event_classes=[seizure]" signal.montage=chbmit "signal.notch=[60]"
windows=(windows.policy=grid windows.background=background windows.duration_s=10 windows.val_fraction=0.5)
for stage in pretrain cache finetune report; do
  eegdm $stage "${chbmit[@]}" "${windows[@]}"
done
