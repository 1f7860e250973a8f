"""What does a run leave on disk?

    config.toml        everything that decides what the run does          config
    metrics.jsonl      a record a line: updates, validations, events      metrics
    samples.txt        text the model wrote, for people to read           samples
    env.json           versions and machine the run was made with         environment
    model.safetensors  weights, and what is needed to build the model     throughtime.train
    last.ckpt          all it takes to go on; previous.ckpt before it     throughtime.train
    report.html        the run drawn from these files alone

A comparison of cells leaves a folder of such folders, and beside them

    study.toml         everything that decides all runs                   study
    results.json       every run's score, means and intervals             study
    picture.svg        the results drawn                                  throughtime.report

Every file carries the number of its schema, holds nothing that runs, and is replaced whole.
"""

from throughtime.records.config import read_config, write_config
from throughtime.records.environment import environment, read_environment, write_environment
from throughtime.records.folder import SCHEMA, RunFolder
from throughtime.records.metrics import Kind, MetricsLog, read_metrics
from throughtime.records.samples import Sample, write_samples
from throughtime.records.study import StudyFolder, read_results, write_results

__all__ = [
    "SCHEMA",
    "Kind",
    "MetricsLog",
    "RunFolder",
    "Sample",
    "StudyFolder",
    "environment",
    "read_config",
    "read_environment",
    "read_metrics",
    "read_results",
    "write_config",
    "write_environment",
    "write_results",
    "write_samples",
]
