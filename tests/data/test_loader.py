"""A loader goes on where it was left, by itself and under a Lightning trainer."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from t4dm.data.loader import BatchLoader
from t4dm.data.sampler import StepSampler

SAMPLER = StepSampler(size=10, batch_size=2, seed=3)


def loader() -> BatchLoader:
    return BatchLoader(
        batch_at=lambda e, s: {"rows": torch.from_numpy(SAMPLER.rows(e, s))}, steps=SAMPLER.steps
    )


def test_a_loaded_position_skips_what_was_seen():
    whole = [b["rows"].tolist() for b in loader()]
    first, second = loader(), loader()
    seen = iter(first)
    head = [next(seen)["rows"].tolist() for _ in range(2)]
    second.load_state_dict(first.state_dict())
    assert head + [b["rows"].tolist() for b in second] == whole
    assert [b["rows"].tolist() for b in second] == whole  # the next pass starts over


def test_a_new_epoch_forgets_the_resumed_position():
    other = loader()
    other.load_state_dict({"epoch": 0, "step": 4})
    other.set_epoch(1)
    assert len(list(other)) == 5


def test_opening_a_loader_draws_no_random_number():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader())
    assert torch.equal(before, torch.get_rng_state())


class Recorder(pl.LightningModule):
    """Trains one number and writes down every batch; may fail after some."""

    def __init__(self, fail_after: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[int]]] = []
        self.fail_after = fail_after

    def training_step(self, batch, batch_idx):
        if self.fail_after is not None and len(self.seen) == self.fail_after:
            raise RuntimeError("power cut")
        self.seen.append((self.trainer.current_epoch, batch["rows"].tolist()))
        return (self.weight - batch["rows"].float().mean()) ** 2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder, module, *, every: int = 1, resume: str | None = None) -> None:
    keep = ModelCheckpoint(dirpath=folder, every_n_train_steps=every, save_top_k=-1, filename="{step}")
    trainer = pl.Trainer(
        max_epochs=3, callbacks=[keep], logger=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu",
    )  # fmt: skip
    trainer.fit(module, train_dataloaders=loader(), ckpt_path=resume)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("cut", [3, 5, 7])
def test_a_killed_training_sees_each_batch_once(tmp_path, cut):
    whole = Recorder()
    fit(tmp_path / "whole", whole)
    assert [epoch for epoch, _ in whole.seen] == [0] * 5 + [1] * 5 + [2] * 5
    killed, resumed = Recorder(fail_after=cut), Recorder()
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path / "cut", killed)
    fit(tmp_path / "rest", resumed, resume=str(tmp_path / "cut" / f"step={cut}.ckpt"))
    assert killed.seen + resumed.seen == whole.seen
    assert torch.equal(resumed.weight, whole.weight)
