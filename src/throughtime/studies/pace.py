"""How many updates fit into a run's budget, for every cell and length that is compared?"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from throughtime.train.config import TrainConfig

__all__ = ["updates_for_all"]


def updates_for_all(configs: Sequence[TrainConfig], budget_s: float, jobs: int) -> list[int | str]:
    """For each run the updates that fit into the budget, or why it cannot be timed.

    They are timed side by side, as the runs will be, each in a process of its own.
    """
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        futures = [pool.submit(_measured, config, budget_s, jobs) for config in configs]
        found: list[int | str] = []
        for future in futures:
            error = future.exception()
            found.append(future.result() if error is None else f"{type(error).__name__}: {error}")
        return found


def _measured(config: TrainConfig, budget_s: float, jobs: int) -> int:
    import torch

    from throughtime.train.budget import measure_pace, updates_within
    from throughtime.train.lessons import make_lesson
    from throughtime.train.optimise import make_optimiser
    from throughtime.train.state import TrainingState

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // jobs))
    torch.manual_seed(config.run.seed)
    lesson = make_lesson(config.settled())
    model = lesson.new_model().train()
    state = TrainingState(model, make_optimiser(config.optimiser, model.parameters()))
    pace = measure_pace(state, lesson, config.optimiser)
    return updates_within(budget_s, pace, config.run.validations)
