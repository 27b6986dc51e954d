"""Hot features: windows kept up to date as events come in and as time passes."""

from serving.featurizer.engine import EventLog, StreamingFeaturizer, lift
from serving.featurizer.windows import open_windows, without_windows

__all__ = ["EventLog", "StreamingFeaturizer", "lift", "open_windows", "without_windows"]
