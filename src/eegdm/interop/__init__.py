"""Other people's formats and interfaces: the published checkpoints, braindecode, scikit-learn."""
