"""What is wrong with a model, and what cures it? Flow, report and training joined."""

from throughtime.diagnosis.cure_model import Cured, Trained, cure
from throughtime.diagnosis.diagnose import diagnose
from throughtime.diagnosis.diagnosis import Diagnosis
from throughtime.diagnosis.options import apply_options
from throughtime.diagnosis.training import Training

__all__ = ["Cured", "Diagnosis", "Trained", "Training", "apply_options", "cure", "diagnose"]
