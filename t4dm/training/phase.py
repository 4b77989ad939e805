"""What the training phases share: the waking pass, validation, trainable-only checkpoints, metric columns."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import Tensor

from t4dm.backbone.identity import check_stamp, stamp
from t4dm.backbone.lora import check_lora, lora_of
from t4dm.data.text import TEXT_SESSION
from t4dm.errors import CalibrationError, ModelMismatchError, NothingToTrainError
from t4dm.memory.memory import Memory
from t4dm.model import MemoryLM, MemoryLMOutput, Reads, Writes
from t4dm.model.calibration import calibrate
from t4dm.sleep.report import SleepReport
from t4dm.spiking.goodness import forward_forward_loss
from t4dm.training.event_clock import EventClock
from t4dm.training.metric_columns import open_columns
from t4dm.training.recent import RecentMean, hits

log = logging.getLogger("t4dm.training")
Batch = Mapping[str, Any]
VAL_METRICS = ("val/loss", "val/recall_accuracy", "text_val/loss")


class Wake(NamedTuple):
    """One waking pass over a batch."""

    loss: Tensor
    """Cross-entropy + goodness_weight * goodness + reconstruction_weight * reconstruction, with its graph."""
    ce: Tensor
    """Weighted cross-entropy in nats, with its graph."""
    goodness: Tensor
    """Forward-forward loss; 0 where nothing was recalled."""
    output: MemoryLMOutput


class Phase(pl.LightningModule, ABC):
    """A phase of training on a model, its memory and its clock; the app owns all three.

    A checkpoint holds what learns and the buffers beside the backbone, nothing of the frozen weights;
    `load_state_dict` checks by itself that exactly these are there. The store is checkpointed by
    `BundleIO`.

    Args:
        model: what is trained.
        memory: what it reads and writes; None trains without.
        clock: told the time of each batch; None leaves time to whoever owns the memory's clock.
        goodness_weight: lambda of the goodness loss.
        negatives: rows of each batch that see another row's memories, for the goodness loss.
        reconstruction_weight: of what the projections lose of the stream; 0 does not measure it.
        calibrate: bring the stack's neurons to their target rates on the first batch of a training that
            starts anew; one that goes on from a checkpoint has done so.

    Raises:
        NothingToTrainError: no parameter of the model learns.
    """

    def __init__(
        self,
        *,
        model: MemoryLM,
        memory: Memory | None,
        clock: EventClock | None,
        goodness_weight: float,
        negatives: int,
        calibrate: bool,
        reconstruction_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.model, self.memory, self.clock = model, memory, clock
        self.goodness_weight, self.negatives = goodness_weight, negatives
        self.reconstruction_weight = reconstruction_weight
        self._to_calibrate = calibrate and model.stack is not None
        # Taken before a phase freezes some of them: what phase 1 learnt stays in the checkpoints of phase 2.
        self._kept = frozenset(_learnt(model))
        if not self._kept:
            raise NothingToTrainError
        self.strict_loading = False
        self._sums: dict[str, Tensor] = {}
        self._distances: tuple[int, ...] = ()
        self._restored: Mapping[str, Any] = {}

    @abstractmethod
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Learn from one batch; the result holds `loss` and the detached `output` for the callbacks."""

    @abstractmethod
    def configure_optimizers(self) -> Any:
        """See Lightning."""

    @abstractmethod
    def after_night(self, report: SleepReport) -> None:
        """What a night changes for this phase."""

    @property
    @abstractmethod
    def step_metrics(self) -> tuple[str, ...]:
        """Names of all metrics that a training step logs."""

    def wake(self, batch: Batch, *, negatives: int = 0) -> Wake:
        """Read, predict, and compare: one pass over a batch in the project's format."""
        self._tell_time(batch)
        output = self.model(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=batch["labels"],
            loss_weights=batch["loss_weights"],
            reads=_reads(batch),
            writes=Writes(batch["write_start"], batch["write_end"], batch["event_times"]),
            memory=self.memory,
            reset=batch["reset"],
            negatives=negatives,
            reconstruct=bool(self.reconstruction_weight),
        )
        goodness = output.loss.new_zeros(())
        if output.contrast is not None:
            right, wrong, mask = output.contrast
            goodness = forward_forward_loss(right, wrong, mask=mask)
        loss = output.loss + self.goodness_weight * goodness
        if output.reconstruction is not None:
            loss = loss + self.reconstruction_weight * output.reconstruction
        return Wake(loss, output.loss, goodness, output)

    def log_step(self, wake: Wake, batch: Batch, extra: Mapping[str, Any]) -> None:
        """Log one training step; every name of `step_metrics` is logged at every step."""
        self._recall.add(*hits(wake.output.logits, batch["input_ids"], batch["answers"]))
        values = {
            "train/loss": wake.loss.detach(),
            "train/ce": wake.ce.detach(),
            "train/goodness": wake.goodness.detach(),
            "train/recall_accuracy": self._recall.value,
            **dict(zip(self.rate_metrics, _rates(wake.output), strict=True)),
            **extra,
        }
        self.log_dict(values, on_step=True, on_epoch=False, batch_size=len(batch["input_ids"]))

    @property
    def rate_metrics(self) -> tuple[str, ...]:
        """One firing rate for each block."""
        blocks = 0 if self.model.stack is None else len(self.model.stack.blocks)
        return tuple(f"spikes/rate_block{i}" for i in range(blocks))

    @property
    def distance_metrics(self) -> tuple[str, ...]:
        """Share of held-out answers that are right, one for each distance in windows at which is asked."""
        return tuple(f"val/recall_accuracy_{distance}_windows" for distance in self._distances)

    def setup(self, stage: str) -> None:
        """Learn what the data asks about; hush two notes of ModelCheckpoint that do not hold here.

        A resume always has a new folder, and a checkpoint after a manual step is meant to be after it.
        """
        trainer: Any = self.trainer
        self._distances = tuple(getattr(trainer.datamodule, "distances", ()))
        for note in ("The dirpath has changed from", "Using ModelCheckpoint with manual optimization"):
            warnings.filterwarnings("ignore", message=note, category=UserWarning)

    def on_fit_start(self) -> None:
        """Dropout and checkpointing look at `training`; the frozen backbone comes in eval mode."""
        self.model.train()
        trainer: Any = self.trainer
        self._recall = RecentMean(size=trainer.log_every_n_steps)

    def on_train_start(self) -> None:
        """Open the columns of metrics.csv; put the generators back where a checkpoint left them."""
        open_columns(self.trainer, (*self.step_metrics, *VAL_METRICS, *self.distance_metrics))
        if self._restored:
            torch.set_rng_state(self._restored["torch"])
            if torch.cuda.is_available() and self._restored["cuda"]:
                torch.cuda.set_rng_state_all(self._restored["cuda"])
            if self.memory is not None and self._restored["memory"]:
                self.memory.rng.bit_generator.state = json.loads(self._restored["memory"])
            self._restored = {}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Before its first step, a fresh stack is calibrated on the batch of that step. Where that batch
        cannot tell (a few tokens, for example), the log says so, and training starts with the stack as made.
        """
        stack = self.model.stack
        if not self._to_calibrate or stack is None:
            return
        self._tell_time(batch)
        self._to_calibrate = False
        made = {name: value.clone() for name, value in stack.state_dict().items()}
        try:
            done = calibrate(
                self.model,
                batch["input_ids"],
                attention_mask=batch["attention_mask"],
                reset=batch["reset"],
                reads=_reads(batch),
                memory=self.memory,
            )
        except CalibrationError as error:
            stack.load_state_dict(made)
            log.warning("the stack is not calibrated: %s", error)
            return
        for line in done.lines():
            log.info(line)

    def on_validation_epoch_start(self) -> None:
        """Nothing seen yet."""
        self._sums = {}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """Read and predict held-out windows; plain text counts apart."""
        wake = self.wake(batch)
        kind = "text_val" if all(session == TEXT_SESSION for session in batch["sessions"]) else "val"
        weight = (batch["loss_weights"] * (batch["labels"] != -100))[:, 1:].sum()
        right, asked = hits(wake.output.logits, batch["input_ids"], batch["answers"])
        sums = {"loss": wake.ce * weight, "weight": weight, "right": right, "asked": asked}
        for distance in self._distances:
            told_then = batch["answers"] & (batch["distance"] == distance)
            found = hits(wake.output.logits, batch["input_ids"], told_then)
            sums |= dict(zip((f"right_{distance}", f"asked_{distance}"), found, strict=True))
        for name, value in sums.items():
            self._sums[f"{kind}/{name}"] = self._sums.get(f"{kind}/{name}", 0.0) + value
        return {"loss": wake.loss, "output": slim(wake.output)}

    def on_validation_epoch_end(self) -> None:
        """Means over everything held out; NaN for what was not there."""
        values = {
            "val/loss": self._mean("val/loss", "val/weight"),
            "val/recall_accuracy": self._mean("val/right", "val/asked"),
            "text_val/loss": self._mean("text_val/loss", "text_val/weight"),
        }
        for distance, name in zip(self._distances, self.distance_metrics, strict=True):
            values[name] = self._mean(f"val/right_{distance}", f"val/asked_{distance}")
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=1)

    def _mean(self, total: str, count: str) -> float:
        counted = float(self._sums.get(count, 0.0))
        return float(self._sums[total]) / counted if counted else float("nan")

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """What learns, by the model's own names."""
        return {name: tensor for name, tensor in self.model.state_dict().items() if name in self._kept}

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Put back what `state_dict` gave.

        Raises:
            LoraMismatchError: its LoRA has another rank or other targets.
            ModelMismatchError: a tensor is missing, unknown, or of another shape.
        """
        own = self.state_dict()
        check_lora(lora_of(state_dict), lora_of(own))
        for problem, names in {
            "it lacks": own.keys() - state_dict.keys(),
            "it also holds": state_dict.keys() - own.keys(),
            "of another shape is": {
                n for n in own.keys() & state_dict.keys() if own[n].shape != state_dict[n].shape
            },
        }.items():
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise ModelMismatchError(f"{problem} {min(names)}{more}")
        return self.model.load_state_dict(dict(state_dict), strict=False, assign=assign)

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Take over what another training learnt; its stack has been calibrated, or was trained without.

        Raises:
            ModelMismatchError: see `load_state_dict`.
        """
        self.load_state_dict(weights)
        self._to_calibrate = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the generators, the clock, a fingerprint of the search keys, and which backbone it was."""
        memory = self.memory
        checkpoint["t4dm"] = {
            **stamp(self.model.backbone),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "memory": json.dumps(memory.rng.bit_generator.state) if memory is not None else "",
            "clock": None if self.clock is None else self.clock(),
            "keys": self._key_fingerprint(),
            "to_calibrate": self._to_calibrate,
        }
        if memory is not None:
            memory.flush_accesses()  # counted in RAM; the store that is about to be copied must hold them

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that it is the same backbone and LoRA, and that stored search keys still mean the same.

        Raises:
            BackboneMismatchError: it was trained on another backbone.
            LoraMismatchError: its LoRA has another rank, alpha or other targets.
            ModelMismatchError: its search keys mean something else.
        """
        self._restored = checkpoint["t4dm"]
        check_stamp(self._restored, self.model.backbone, what="the checkpoint")
        self._to_calibrate = self._restored.get("to_calibrate", False)
        if self._restored["keys"] != self._key_fingerprint():
            raise ModelMismatchError(
                "its search keys count words otherwise (another tokenizer, task or seed)"
            )
        if self.clock is not None and self._restored["clock"] is not None:
            self.clock.advance(self._restored["clock"])

    def _tell_time(self, batch: Batch) -> None:
        if self.clock is not None:
            self.clock.advance(float(batch["event_times"].max()))

    def _key_fingerprint(self) -> str:
        embedder = self.model.embedder
        if embedder is None:
            return ""
        state = embedder.state_dict()
        plain = json.dumps([state["vocab_size"], state["dim"], state["seed"]])
        return hashlib.sha256(plain.encode() + state["idf"].tobytes()).hexdigest()


def slim(output: MemoryLMOutput) -> MemoryLMOutput:
    """An output without graph, logits and state, for callbacks that keep it until the next step."""
    loss = None if output.loss is None else output.loss.detach()
    losses = None if output.token_losses is None else output.token_losses.detach()
    aux = None if output.aux is None else type(output.aux)(*(part.detach() for part in output.aux))
    return output._replace(
        logits=output.logits.detach()[:0],
        loss=loss,
        token_losses=losses,
        state=None,
        aux=aux,
        contrast=None,
        reconstruction=None,
    )


def _reads(batch: Batch) -> Reads:
    return Reads(batch["read_start"], batch["read_end"], batch["sessions"])


def _learnt(model: MemoryLM) -> Iterator[str]:
    """Names of trainable parameters, and of saved buffers outside the backbone."""
    saved = model.state_dict().keys()
    for name, _ in model.trainable_named_parameters():
        yield name
    for name, _ in model.named_buffers():
        if name in saved and not name.startswith("language_model."):
            yield name


def _rates(output: MemoryLMOutput) -> list[Tensor]:
    return [] if output.aux is None else list(output.aux.rate.detach().mean(-1))
