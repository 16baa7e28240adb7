"""Models applied to recordings: events, embeddings, and synthetic recordings."""

from eegdm.evaluation.decision import RecordingDecision
from eegdm.inference.embedding import Embeddings, EmbedOptions, embed
from eegdm.inference.generation import Generated, generate
from eegdm.inference.prediction import Options, Prediction, annotate, predict, predict_signal
from eegdm.inference.surprising import Surprise, SurpriseOptions, surprise

__all__ = [
    "EmbedOptions",
    "Embeddings",
    "Generated",
    "Options",
    "Prediction",
    "RecordingDecision",
    "Surprise",
    "SurpriseOptions",
    "annotate",
    "embed",
    "generate",
    "predict",
    "predict_signal",
    "surprise",
]
