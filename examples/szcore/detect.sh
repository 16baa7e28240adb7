#!/bin/sh
# Writes the seizures of one recording: what the container of the Dockerfile beside this file runs.
# Usage: detect.sh MODEL RECORDING EVENTS
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# SzCORE's 19 electrodes have no ears: a model that knows A1-T3 and A2-T4 goes without them
eegdm predict "$2" --model "$1" --missing drop --no-report --out "$work"
# The scoreboard makes the file beforehand, in a folder where this user may make none
cat "$work"/*_events.tsv > "$3"
