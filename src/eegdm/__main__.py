"""`python -m eegdm` is `eegdm`."""

from eegdm.cli import main

main()
