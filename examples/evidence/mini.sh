#!/usr/bin/env bash
# The backbone that comes with the package, `mini`: 28 people of three open corpora, three of whom only validate.
# Usage: examples/evidence/mini.sh DATA ROOT [SETTINGS...]
#   DATA      a folder with people/eegmat/*.edf, eegmmidb/*.edf and chbmit/edf/*.edf
#   ROOT      where results go; the same command resumes a killed run
#   SETTINGS  such as device=cuda or pretrain.epochs=20
# Then: package_mini.py puts ROOT/folder/people/backbone into the package, as src/eegdm/weights/mini.
set -euo pipefail
data=$(realpath "$1") root=$2
shift 2
. "$(dirname "$0")/people_recordings.sh"
eegdm pretrain $people "root=$root" seed=0 windows.split=subject "$@"
