"""The five stages, run as a user runs them, on a synthetic corpus."""
