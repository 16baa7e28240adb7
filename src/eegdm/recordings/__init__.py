"""What models say of recordings: events, embeddings; and recordings that a model makes up."""

from eegdm.recordings.prediction import Options, Prediction, annotate, predict, predict_signal

__all__ = ["Options", "Prediction", "annotate", "predict", "predict_signal"]
