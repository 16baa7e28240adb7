"""The five stages, run as a user runs them, on a corpus made up for the tests."""
