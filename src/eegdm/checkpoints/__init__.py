"""Trained models from any source: the published checkpoints, and `load`, which reads all."""
