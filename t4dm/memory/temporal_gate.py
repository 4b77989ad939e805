"""tau(t): how much of the present is worth keeping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from t4dm.errors import GateStateError, SettingError

__all__ = ["FEATURES", "TemporalGate"]

FEATURES = ("prediction_error", "novelty", "reward")
_Z_LIMIT = 6.0
_MIN_STD = 1e-6


@final
class TemporalGate:
    """tau = sigmoid(b + w . z), with z the features' z-scores against their running mean and deviation.

    The often written form ``tau = sigmoid(l1 * error + l2 * novelty + l3 * reward)`` cannot close: all
    three features and weights are non-negative, so tau never falls below sigmoid(0) = 0.5 and everything is
    written. Two changes cure it. Features are z-scored, so "more surprising than usual" is positive and
    "less" is negative. And a bias, about -2 (tau = 0.12 for an average moment), is moved until the wanted
    share of moments passes the threshold:
    ``b += bias_rate * (target_rate - share)``, a stochastic search for a quantile (Robbins & Monro 1951).

    The weights start from a guess and are *learned*: `learn` takes one step of online logistic regression
    on whether what was offered was later recalled. The regression keeps an intercept of its own, so that
    how often things are used and how often they may be written stay separate questions; without a target
    rate there is only one bias.

    Args:
        weights: w, one for each feature; the first three belong to `FEATURES`, more may follow.
        bias: b at the start.
        target_rate: wanted share of tau >= threshold, in (0, 1). None leaves b to `learn`.
        threshold: tau at which a moment counts as written.
        bias_rate: step of the bias towards the target rate, for each moment offered.
        decay: of the running mean and variance, for each moment.
        learning_rate: step of the logistic regression, for each example.

    Steps of a large batch are capped at one mean gradient, so that no batch size makes either search diverge.
    """

    def __init__(
        self,
        *,
        weights: Sequence[float] = (1.0, 0.5, 0.5),
        bias: float = -2.0,
        target_rate: float | None = None,
        threshold: float = 0.5,
        bias_rate: float = 0.02,
        decay: float = 0.999,
        learning_rate: float = 0.05,
    ) -> None:
        if len(weights) < len(FEATURES):
            fix = f"give at least one for each of {', '.join(FEATURES)}"
            raise SettingError("model.writer.gate.weights", list(weights), fix)
        if target_rate is not None and not 0.0 < target_rate < 1.0:
            fix = "set it to a share between 0 and 1, or to null"
            raise SettingError("model.writer.gate.target_rate", target_rate, fix)
        self.target_rate = target_rate
        self.threshold = threshold
        self.bias_rate = bias_rate
        self.decay = decay
        self.learning_rate = learning_rate
        self.bias = float(bias)
        self.intercept = float(bias)
        self.weights: NDArray[np.float64] = np.asarray(weights, dtype=np.float64)
        self._mean = np.zeros(len(weights))
        self._variance = np.zeros(len(weights))
        self._seen = 0
        self._passed = 0

    def __call__(self, features: Any, *, update: bool = True) -> NDArray[np.float32]:
        """tau of N moments.

        Args:
            features: [N, F] raw (unscaled) prediction error, novelty, reward and any further features, as
                an array or a tensor. Rows are moments in order.
            update: move the running statistics and the bias. False in evaluation.

        Returns:
            tau, [N] in (0, 1).
        """
        raw = self._as_features(features)
        if update:
            self._track(raw)
        tau = _sigmoid(self.bias + self._z(raw) @ self.weights)
        if update:
            self._steer(tau)
        return tau.astype(np.float32)

    def learn(self, features: Any, used: Any) -> float:
        """One step of logistic regression towards "was it recalled later?".

        Args:
            features: [N, F] raw features as they were when the moments were offered.
            used: [N], 1 where the item was recalled since, 0 where not.

        Returns:
            Mean cross-entropy before the step, in nats.
        """
        z = self._z(self._as_features(features))
        target = np.asarray(used, dtype=np.float64).reshape(-1)
        if not target.size:
            return 0.0
        guess = _sigmoid(self.intercept + z @ self.weights)
        error = target - guess
        step = min(1.0, self.learning_rate * len(target))
        self.weights = self.weights + step * (error @ z) / len(target)
        self.intercept += step * float(error.mean())
        if self.target_rate is None:
            self.bias = self.intercept
        safe = np.clip(guess, 1e-12, 1.0 - 1e-12)
        return float(-np.mean(target * np.log(safe) + (1.0 - target) * np.log(1.0 - safe)))

    @property
    def write_rate(self) -> float:
        """Share of the moments offered so far that passed the threshold."""
        return self._passed / self._seen if self._seen else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Lists, numbers and nothing else, for a checkpoint."""
        return {
            "weights": self.weights.tolist(),
            "bias": self.bias,
            "intercept": self.intercept,
            "mean": self._mean.tolist(),
            "variance": self._variance.tolist(),
            "seen": self._seen,
            "passed": self._passed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            GateStateError: the state has another number of features.
        """
        if len(state["weights"]) != self.weights.size:
            raise GateStateError(found=len(state["weights"]), expected=self.weights.size)
        self.weights = np.asarray(state["weights"], dtype=np.float64)
        self._mean = np.asarray(state["mean"], dtype=np.float64)
        self._variance = np.asarray(state["variance"], dtype=np.float64)
        self.bias, self.intercept = float(state["bias"]), float(state["intercept"])
        self._seen, self._passed = int(state["seen"]), int(state["passed"])

    def _as_features(self, features: Any) -> NDArray[np.float64]:
        raw: NDArray[np.float64] = np.asarray(features, dtype=np.float64)
        if raw.ndim != 2 or raw.shape[1] != self.weights.size:
            raise ValueError(f"features has shape {raw.shape}; pass [N, {self.weights.size}].")
        if not np.isfinite(raw).all():
            raise ValueError(
                "features holds NaN or infinity, which would poison the running mean; mask such moments."
            )
        return raw

    def _track(self, raw: NDArray[np.float64]) -> None:
        """Merge a batch into the running moments; the share of new data starts as the plain mean's, N /
        (seen + N).
        """
        count = len(raw)
        if not count:
            return
        share = max(1.0 - self.decay**count, count / (self._seen + count))
        shift = raw.mean(axis=0) - self._mean
        self._mean = self._mean + share * shift
        self._variance = (1.0 - share) * (self._variance + share * shift**2) + share * raw.var(axis=0)
        self._seen += count

    def _z(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """A feature that has never varied says nothing: its z is 0, not a division by a rounding error."""
        deviation = np.sqrt(self._variance)
        varies = deviation > _MIN_STD
        z = np.where(varies, (raw - self._mean) / np.where(varies, deviation, 1.0), 0.0)
        return np.clip(z, -_Z_LIMIT, _Z_LIMIT)

    def _steer(self, tau: NDArray[np.float64]) -> None:
        passed = int(np.count_nonzero(tau >= self.threshold))
        self._passed += passed
        if self.target_rate is not None:
            step = min(1.0, self.bias_rate * len(tau))
            self.bias += step * (self.target_rate - passed / max(1, len(tau)))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Written with tanh so that no argument overflows."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))
