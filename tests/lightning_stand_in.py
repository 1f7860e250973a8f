"""What is Lightning, to a callback? The order of its hooks, in a trainer that does no more.

Lightning 2.6 was read for it: `loops/training_epoch_loop.py`, `loops/optimization/` and, for what
comes before the optimizer's step, `plugins/precision/precision.py`. `flow/test_lightning.py` holds
it to the real one where that is installed.
"""

import sys
from types import ModuleType, SimpleNamespace

import torch
from torch import nn

__all__ = ["HOOKS", "PACKAGES", "StandInTrainer", "stand_in"]

PACKAGES = ["lightning.pytorch", "pytorch_lightning"]

HOOKS = [
    "on_train_start", "on_train_batch_start", "on_before_zero_grad", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end", "on_train_epoch_end", "on_validation_start",
    "on_train_end", "on_fit_end", "on_exception",
]  # fmt: skip


class StandInCallback:
    """All hooks, and none does anything."""


for hook in HOOKS:
    setattr(StandInCallback, hook, lambda self, *args, **options: None)


class StandInModule(nn.Module):
    automatic_optimization = True
    trainer = None

    @property
    def current_epoch(self):
        return self.trainer.current_epoch

    def log(self, name, value, *, on_step, on_epoch):
        self.trainer.callback_metrics[name] = torch.tensor(value)

    def on_train_batch_start(self, batch, batch_idx):
        pass

    def manual_backward(self, loss):
        loss.backward()
        self.trainer.tell("on_after_backward")

    def optimizers(self):
        return [
            SimpleNamespace(step=lambda o=o: self.trainer.step(o), zero_grad=o.zero_grad)
            for o in self.trainer.made
        ]


class StandInTrainer:
    def __init__(
        self, *, callbacks=(), max_epochs=1, gradient_clip_val=None, gradient_clip_algorithm=None,
        accumulate_grad_batches=1, precision="32-true", **_quiet
    ):  # fmt: skip
        self.callbacks, self.max_epochs, self.precision = callbacks, max_epochs, precision
        self.gradient_clip_val, self.gradient_clip_algorithm = (
            gradient_clip_val, gradient_clip_algorithm
        )  # fmt: skip
        self.accumulate_grad_batches = accumulate_grad_batches
        self.callback_metrics, self.global_step, self.print = {}, 0, print

    def tell(self, hook, *args):
        for callback in self.callbacks:
            getattr(callback, hook)(self, self.model, *args)

    def fit(self, model, train_dataloaders, val_dataloaders=()):
        self.model = model
        model.trainer = self
        self.made = model.configure_optimizers()
        self.made = self.made if isinstance(self.made, list) else [self.made]
        try:
            self.tell("on_train_start")
            for epoch in range(self.max_epochs):
                self.current_epoch = epoch
                self.epoch(list(train_dataloaders), val_dataloaders)
            self.tell("on_train_end")
        except BaseException as error:
            self.tell("on_exception", error)
            raise
        self.tell("on_fit_end")

    def epoch(self, batches, held_out):
        for i, batch in enumerate(batches):
            self.tell("on_train_batch_start", batch, i)
            if self.model.on_train_batch_start(batch, i) == -1:
                break
            if self.model.automatic_optimization:
                self.automatic(batch, i, is_last=i + 1 == len(batches))
            else:
                self.model.training_step(batch, i)
            self.tell("on_train_batch_end", None, batch, i)
        else:
            if held_out:
                self.tell("on_validation_start")
                with torch.no_grad():
                    for i, batch in enumerate(held_out):
                        self.model.validation_step(batch, i)
        self.tell("on_train_epoch_end")

    def automatic(self, batch, i, *, is_last):
        loss = self.model.training_step(batch, i)
        if i % self.accumulate_grad_batches == 0:
            self.tell("on_before_zero_grad", self.made[0])
            self.made[0].zero_grad()
        if loss is not None:
            (loss / self.accumulate_grad_batches).backward()
            self.tell("on_after_backward")
        if is_last or (i + 1) % self.accumulate_grad_batches == 0:
            self.step(self.made[0])

    def step(self, optimizer):
        self.tell("on_before_optimizer_step", optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.gradient_clip_val and self.gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, self.gradient_clip_val)
        elif self.gradient_clip_val:
            nn.utils.clip_grad_norm_(parameters, self.gradient_clip_val)
        optimizer.step()
        self.global_step += 1


def stand_in(name, monkeypatch):
    """The stand-in as one of the packages, the other one not there."""
    for other in ("lightning", *PACKAGES):
        monkeypatch.setitem(sys.modules, other, None)
    package = ModuleType(name)
    package.Callback, package.LightningModule = StandInCallback, StandInModule
    package.Trainer = StandInTrainer
    if name == "lightning.pytorch":
        monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, name, package)
    return package
