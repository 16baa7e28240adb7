"""Features of the windows of many recordings: a folder that later commands read."""

from eegdm.features.making import embed_folder, open_store
from eegdm.features.store import FeatureStore, Stacked

__all__ = ["FeatureStore", "Stacked", "embed_folder", "open_store"]
