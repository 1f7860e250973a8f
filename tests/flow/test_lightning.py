"""The gauge as a callback: it shows what it shows in a plain loop, and changes nothing.

Every test runs on a stand-in with Lightning's order of hooks, and on both packages of Lightning
where they are installed; that the stand-in keeps the order is one of the tests.
"""

import csv
import importlib
import pickle
import re
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import throughtime as tt
from lightning_stand_in import HOOKS, PACKAGES, StandInTrainer, stand_in
from throughtime.errors import ConfigError
from throughtime.flow import lightning
from throughtime.flow.lightning import LightningMonitor

# Lightning warns of few workers, of no logger and the like.
REAL = [pytest.param(name, marks=pytest.mark.filterwarnings("ignore")) for name in PACKAGES]


@pytest.fixture(params=["stand-in", *REAL])
def package(request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if request.param == "stand-in":
        return stand_in("pytorch_lightning", monkeypatch)
    return pytest.importorskip(request.param)


# --- What is trained ------------------------------------------------------------------------------

BATCHES = 8


def batches():
    x = torch.randn(BATCHES * 4, 12, 3, generator=torch.Generator().manual_seed(3))
    return DataLoader(TensorDataset(x, x[:, 0, 0]), batch_size=4)


def made(package, **changed):
    """A model of the package, with some of its methods changed."""

    class Net(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(3, 6, batch_first=True), nn.Linear(6, 1)
            self.logged = []

        def loss(self, batch):
            return (self.out(self.rnn(batch[0])[0][:, -1]).squeeze(-1) - batch[1]).square().mean()

        def training_step(self, batch, batch_idx):
            return self.loss(batch)

        def validation_step(self, batch, batch_idx):
            assert not hooks_of(self)
            self.loss(batch)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

        def log(self, name, value, **options):
            self.logged.append((self.current_epoch, name, float(value)))
            super().log(name, value, **options)

    torch.manual_seed(0)
    return type("Net", (Net,), changed)()


def hooks_of(model):
    return [h for m in model.modules() for h in (*m._forward_hooks, *m._forward_pre_hooks)]


def trainer(package, *callbacks, **options):
    quiet = dict.fromkeys(
        ["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"], False
    )
    return package.Trainer(
        callbacks=list(callbacks), **{"accelerator": "cpu", **quiet, "max_epochs": 2, **options}
    )


def callback(**options):
    return LightningMonitor(**{
        "lags": (1, 4),
        "every_updates": 3,
        "every_s": 1e9,
        "most_share": 1e9,
        **options,
    })


def fitted(package, *callbacks, model=None, **options):
    model = made(package) if model is None else model
    trainer(package, *callbacks, **options).fit(model, batches(), batches())
    return model


def in_a_plain_loop(model, *, clip_norm=None, accumulate=1):
    optimizer = model.configure_optimizers()
    monitor = tt.Monitor(
        model, lags=(1, 4), every_updates=3, every_s=1e9, most_share=1e9, clip_norm=clip_norm
    )
    for _ in range(2):
        for i, batch in enumerate(batches()):
            if i % accumulate == 0:
                optimizer.zero_grad()
                with monitor:
                    (model.loss(batch) / accumulate).backward()
            else:
                (model.loss(batch) / accumulate).backward()
            if i + 1 == BATCHES or (i + 1) % accumulate == 0:
                parameters = list(model.parameters())
                bound = clip_norm or float("inf")
                monitor.noted(nn.utils.clip_grad_norm_(parameters, bound))
                optimizer.step()
    return monitor


def same(first, second):
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# --- The tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_it_shows_what_it_shows_in_a_plain_loop(package, clip_norm, accumulate):
    watched = callback()
    options = {"gradient_clip_val": clip_norm, "accumulate_grad_batches": accumulate}
    model, plain = fitted(package, watched, **options), made(package)
    monitor = in_a_plain_loop(plain, clip_norm=clip_norm, accumulate=accumulate)
    assert same(model, fitted(package, **options))  # the callback changes nothing
    assert same(model, plain)  # and Lightning does what the loop does
    assert watched.monitor.history == monitor.history
    assert len(monitor.history) == (6 if accumulate == 1 else 2)
    assert watched.monitor.gradient_norms == pytest.approx(monitor.gradient_norms, rel=1e-6)
    shares = [reading.clipped_share for reading in watched.monitor.readings]
    assert (shares[1] is None) == (clip_norm is None)
    assert not hooks_of(model)


def test_readings_are_logged_and_stay(package):
    told = []
    watched = callback(every_updates=12, told=told.append)
    model = fitted(package, watched, max_epochs=3)
    first, second = watched.monitor.readings
    assert told == [[first], [second]]

    def logged(epoch, reading):
        horizon = float(reading.horizon_steps)
        values = {"memory_horizon_steps/rnn": horizon}
        for lag, share in zip((1, 4), reading.error_at_lags, strict=True):
            values[f"error_at_lag_{lag}/rnn"] = share
        return [(epoch, name, value) for name, value in values.items()]

    # An epoch of eight updates: the readings are after none and twelve.
    assert model.logged == [
        *logged(0, first), *logged(1, first), *logged(1, second), *logged(2, second)
    ]  # fmt: skip
    metrics = model.trainer.callback_metrics
    assert float(metrics["memory_horizon_steps/rnn"]) == second.horizon_steps


@pytest.mark.parametrize("name", REAL)
def test_every_line_of_a_log_has_it(name, tmp_path):
    package = pytest.importorskip(name)
    logger = importlib.import_module(f"{name}.loggers").CSVLogger(tmp_path)
    model = made(package)
    model.validation_step = lambda batch, batch_idx: None
    fitted(package, callback(every_updates=10**6), model=model, logger=logger, log_every_n_steps=2)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == BATCHES
    assert all(float(row["memory_horizon_steps/rnn"]) >= 1 for row in rows)


def test_what_it_costs_is_printed_and_counted(package, capsys, monkeypatch):
    now = [0.0]

    def tick():
        now[0] += 0.01
        return now[0]

    monkeypatch.setattr(time, "perf_counter", tick)
    watched = callback(every_updates=10**6)
    fitted(package, watched)
    assert re.search(r"throughtime: rnn: memory horizon .* of the time", capsys.readouterr().out)
    assert watched.monitor.cost_s >= 0.01 * (2 * BATCHES + 1)  # every norm and the one reading


def test_few_norms_wait(package, monkeypatch):
    monkeypatch.setattr(lightning, "_MOST_PENDING", 3)
    waiting = []

    def after(self, trainer, pl_module, *rest):
        waiting.append(len(watched._norms))

    watched = callback(every_updates=10**6)
    fitted(package, watched, type("Look", (package.Callback,), {"on_train_batch_end": after})())
    assert max(waiting) == 3
    assert len(watched.monitor.gradient_norms) == 2 * BATCHES


def test_what_norms_are_clipped_to(package):
    for options, given, expected in (
        ({"gradient_clip_val": 0.3}, {}, 0.3),
        ({"gradient_clip_val": 0.3, "gradient_clip_algorithm": "value"}, {}, None),
        ({"gradient_clip_val": 0.3}, {"clip_norm": 2.0}, 2.0),
    ):
        watched = callback(**given)
        fitted(package, watched, max_epochs=1, **options)
        assert watched.monitor.clip_norm == expected


@pytest.mark.parametrize("after", [3, 5])  # in an update that is read, and in one that is not
def test_an_error_leaves_no_hook_behind(package, after):
    def failing(gradient):
        raise ArithmeticError("when errors have come to the layer already")

    def training_step(self, batch, batch_idx):
        x, y = batch[0].clone().requires_grad_(), batch[1]
        if batch_idx == after:
            assert bool(hooks_of(self)) == (after == 3)
            x.register_hook(failing)
        return self.loss((x, y))

    watched, model = callback(), made(package, training_step=training_step)
    with pytest.raises(ArithmeticError):
        fitted(package, watched, model=model)
    assert not hooks_of(model)
    assert [r.update for r in watched.monitor.readings] == ([0] if after == 3 else [0, 3])
    assert len(watched.monitor.gradient_norms) == after


def test_a_batch_without_a_loss_is_not_read(package):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) if batch_idx else None

    watched = callback(every_updates=10**6)
    fitted(package, watched, model=made(package, training_step=training_step), max_epochs=1)
    assert [r.update for r in watched.monitor.readings] == [1]


def test_an_epoch_that_ends_early(package):
    hooked = []

    def on_train_batch_start(self, batch, batch_idx):
        hooked.append(bool(hooks_of(self)))
        return -1 if batch_idx == 3 else None

    model = made(package, on_train_batch_start=on_train_batch_start)
    fitted(package, callback(), model=model, max_epochs=1)
    assert hooked == [True, False, False, True]
    assert not hooks_of(model)


def test_manual_optimisation(package):
    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        for optimizer, loss in (
            (first, lambda: self.out(torch.ones(2, 6)).square().sum()),  # passes the layer by
            (second, lambda: self.loss(batch)),
        ):
            optimizer.zero_grad()
            self.manual_backward(loss())
            optimizer.step()
            hooked.append(bool(hooks_of(self)))

    def optimizers(self):
        return [torch.optim.SGD(m.parameters(), 0.01) for m in (self.out, self.rnn)]

    hooked, watched = [], callback(every_updates=2)
    model = made(package, training_step=training_step, configure_optimizers=optimizers)
    model.automatic_optimization = False
    fitted(package, watched, model=model, max_epochs=1)
    assert hooked == [True, False, False, False] * (BATCHES // 2)
    assert [r.update for r in watched.monitor.readings] == [0, 2, 4, 6]
    assert len(watched.monitor.gradient_norms) == 2 * BATCHES


def test_a_fit_goes_on_from_where_it_was(package):
    watched, twice = callback(), trainer(package)
    twice.callbacks.append(watched)
    twice.fit(made(package), batches())
    before = watched.monitor
    if not isinstance(twice, StandInTrainer):  # which does not count epochs over fits
        twice.fit_loop.max_epochs = 3
    model = made(package, loss=lambda self, batch: self.renamed(batch[0])[0].square().mean())
    model.renamed = model.rnn
    del model.rnn
    twice.fit(model, batches())
    assert before.updates == 2 * BATCHES
    assert watched.monitor.readings[0].update == 2 * BATCHES
    assert {name.partition("/")[2] for _, name, _ in model.logged} == {"renamed"}


def test_processes_that_are_spawned_get_it(package):
    class Own(LightningMonitor):
        pass

    globals()["Own"] = Own
    Own.__qualname__ = "Own"
    for kind in (LightningMonitor, Own):
        sent = pickle.loads(pickle.dumps(kind(lags=(2,), rows=1)))
        assert isinstance(sent, kind)
        assert isinstance(sent, package.Callback)
        assert sent.options == {"lags": (2,), "rows": 1}


def test_wrong_options_are_refused_at_once_and_nothing_is_drawn(package):
    state = torch.get_rng_state()
    callback()
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ConfigError, match="rows"):
        callback(rows=0)
    with pytest.raises(TypeError, match="lag"):
        callback(lag=1)


def test_what_cannot_be_watched(package):
    model = made(package)
    del model.rnn
    with pytest.raises(ConfigError, match="no recurrent layer"):
        trainer(package, callback()).fit(model, batches())


@pytest.mark.parametrize("name", PACKAGES)
def test_it_is_a_callback_of_the_package_that_is_there(name, monkeypatch):
    package = stand_in(name, monkeypatch)
    assert isinstance(callback(), package.Callback)
    other = ModuleType("other")
    other.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, next(n for n in PACKAGES if n != name), other)
    both = callback()  # it cannot know which of the two trains
    assert isinstance(both, package.Callback)
    assert isinstance(both, other.Callback)


def test_without_lightning_it_says_what_to_install(monkeypatch):
    stand_in("pytorch_lightning", monkeypatch)
    for name in ("lightning", *PACKAGES):
        monkeypatch.delitem(sys.modules, name)
    missing = []

    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=(missing or [name])[0])

    monkeypatch.setattr(lightning, "import_module", absent)
    with pytest.raises(ConfigError, match="pip install pytorch-lightning"):
        callback()
    missing.append("torchmetrics")  # it is there, and broken
    with pytest.raises(ModuleNotFoundError, match="lightning"):
        callback()


@pytest.mark.parametrize("name", REAL)
def test_the_stand_in_keeps_the_order_of_hooks(name, monkeypatch):
    real, told = pytest.importorskip(name), []
    for package in (real, stand_in("pytorch_lightning", monkeypatch)):
        order = []
        hooks = {
            hook: lambda self, *args, _hook=hook, _order=order, **options: _order.append(_hook)
            for hook in HOOKS
            if hook != "on_exception"
        }
        for options in ({}, {"accumulate_grad_batches": 3}):
            recorder = type("Recorder", (package.Callback,), hooks)()
            fitted(package, recorder, num_sanity_val_steps=0, **options)
        told.append(order)
    assert told[0] == told[1]
    assert told[0].count("on_before_optimizer_step") == 2 * BATCHES + 2 * 3


def test_the_page_says_how(monkeypatch):
    page = Path(__file__).parent.parent.parent / "docs" / "instrument.md"
    [code] = re.findall(r"^```py\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    package = stand_in("lightning.pytorch", monkeypatch)
    names = {"model": made(package), "data": batches()}
    exec(code, names)
    assert names["gauge"].monitor.readings[0].lags == [1, 8]
