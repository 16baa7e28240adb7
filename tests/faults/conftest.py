"""The corpus and the finished run that the tests of the stages use."""

from stages.conftest import corpus, finished  # noqa: F401
