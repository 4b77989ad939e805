"""Phase 1: gradients through surrogate spikes, into LoRA, stack and projections at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import torch
from torch import nn

from t4dm.errors import SettingError
from t4dm.memory.memory import Memory
from t4dm.model import MemoryLM
from t4dm.sleep.report import SleepReport
from t4dm.training.event_clock import EventClock
from t4dm.training.phase import Batch, Phase, slim


@final
class SurrogatePhase(Phase):
    """AdamW (Loshchilov & Hutter 2019) on answer-weighted cross-entropy + lambda * goodness
    + rho * reconstruction error.

    Args:
        model, memory, clock: see `Phase`.
        lr_lora, lr_stack, lr_projections: peak learning rates of the three groups.
        weight_decay: of matrices; gains, gates and other vectors are not decayed.
        betas: of AdamW.
        warmup: steps of linear warm-up.
        final_lr: share of the peak at the end of the cosine; 1 keeps the peak. Without a known end there
            is no decay.
        goodness_weight: lambda.
        negatives: rows of each batch that see another row's memories; only where lambda is not 0.
        reconstruction_weight: rho, of what the projections lose of the stream; 0 does not measure it.
        calibrate: of a fresh stack, see `Phase`.
        compile: the `torch.compile` backend that compiles the stack, such as "inductor", once it is
            calibrated; None runs it as written. Pays where kernels are small, on a GPU; on a CPU the first
            steps take a minute.
    """

    def __init__(
        self,
        *,
        model: MemoryLM,
        memory: Memory | None = None,
        clock: EventClock | None = None,
        lr_lora: float = 2e-4,
        lr_stack: float = 1e-3,
        lr_projections: float = 1e-3,
        weight_decay: float = 0.01,
        betas: Sequence[float] = (0.9, 0.98),
        warmup: int = 20,
        final_lr: float = 0.1,
        goodness_weight: float = 0.01,
        negatives: int = 1,
        reconstruction_weight: float = 0.0,
        calibrate: bool = True,
        compile: str | None = None,
    ) -> None:
        super().__init__(
            model=model,
            memory=memory,
            clock=clock,
            goodness_weight=goodness_weight,
            negatives=negatives,
            reconstruction_weight=reconstruction_weight,
            calibrate=calibrate,
        )
        self._rates = {"lora": lr_lora, "stack": lr_stack, "projections": lr_projections}
        self._decay, self._betas = weight_decay, (float(betas[0]), float(betas[1]))
        self._warmup, self._final = warmup, final_lr
        if compile is not None and compile not in (known := torch.compiler.list_backends(exclude_tags=())):
            raise SettingError("phase.compile", compile, f"choose one of {', '.join(sorted(known))}, or null")
        self._to_compile = compile

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Before its first step the stack is calibrated, then compiled."""
        super().on_train_batch_start(batch, batch_idx)
        if self._to_compile is not None and self.model.stack is not None:
            # torch's own look at `.grad` while it traces
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor", category=UserWarning)
            self.model.stack.compile(backend=self._to_compile)
            self._to_compile = None

    @property
    def step_metrics(self) -> tuple[str, ...]:
        """Names of all metrics that a training step logs."""
        losses = ("train/loss", "train/ce", "train/goodness", "train/recall_accuracy", "train/learning_rate")
        return (*losses, *self._reconstruction_metrics, *self.rate_metrics)

    @property
    def _reconstruction_metrics(self) -> tuple[str, ...]:
        measured = self.reconstruction_weight and self.model.stack is not None
        return ("train/reconstruction_error",) if measured else ()

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """One step of gradient descent."""
        wake = self.wake(batch, negatives=self.negatives if self.goodness_weight else 0)
        extra: dict[str, Any] = {"train/learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"]}
        if wake.output.reconstruction is not None:
            extra |= dict.fromkeys(self._reconstruction_metrics, wake.output.reconstruction.detach())
        self.log_step(wake, batch, extra)
        return {"loss": wake.loss, "output": slim(wake.output)}

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine, a step at a time."""
        optimizer = torch.optim.AdamW(list(self._groups()), betas=self._betas)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, warmup_cosine(warmup=self._warmup, steps=self._steps, final=self._final)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _steps(self) -> float:
        """All steps of the training.

        Asked for in `configure_optimizers`, it would open the data before Lightning has put it back to its
        position, and a resumed epoch would begin anew.
        """
        return self.trainer.estimated_stepping_batches

    def after_night(self, report: SleepReport) -> None:
        """Nothing: gradients go on as before."""

    def _groups(self) -> Iterator[dict[str, Any]]:
        """LoRA, stack and projections, each with and without decay; empty ones are left out."""
        stack = [] if self.model.stack is None else list(self.model.stack.parameters())
        parts: dict[str, list[nn.Parameter]] = {
            "lora": list(self.model.lora_parameters()),
            "stack": stack,
            "projections": list(self.model.projection_parameters()),
        }
        for name, parameters in parts.items():
            for kind, decay in (("matrices", self._decay), ("vectors", 0.0)):
                chosen = [p for p in parameters if p.requires_grad and (p.ndim > 1) == (kind == "matrices")]
                if chosen:
                    yield {
                        "params": chosen,
                        "lr": self._rates[name],
                        "weight_decay": decay,
                        "name": f"{name}/{kind}",
                    }


def warmup_cosine(*, warmup: int, steps: Callable[[], float], final: float) -> Callable[[int], float]:
    """Factor of the learning rate by step: linear to 1, then half a cosine to `final` at `steps`."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if step == warmup:  # also before the first step, when `steps` cannot be asked yet
            return 1.0
        done = min(1.0, (step - warmup) / max(1.0, steps() - warmup))
        return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))

    return factor
