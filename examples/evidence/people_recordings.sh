# Recordings of 28 people in $root/folder/people/recordings: EEGMAT, eegmmidb and the excerpts of CHB-MIT below $data.
# Sourced by mini.sh and people.sh, which set both.
people="corpus=folder recipe=people"
recordings="$root/folder/people/recordings"
mkdir -p "$root/links/"{eegmat,chbmit,eegmmidb}
ln -sfn "$data"/people/eegmat/*.edf "$root/links/eegmat"
ln -sfn "$data"/chbmit/edf/*.edf "$root/links/chbmit"
ln -sfn "$data"/eegmmidb/*.edf "$root/links/eegmmidb"
eegdm preprocess $people "root=$root" "source=$root/links" events=none 'corpus.pattern=(?P<subject>Subject\d+|S\d+(?=R)|chb\d+)'
