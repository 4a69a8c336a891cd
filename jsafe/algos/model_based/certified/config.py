"""Options of CRABS."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from jsafe.components.actors import Actor, Gaussian
from jsafe.components.barriers import Barrier, Box
from jsafe.components.certify import Certify
from jsafe.components.dynamics import Dynamics, Ensemble
from jsafe.components.temperature import Learned, Temperature
from jsafe.feeds import Replay
from jsafe.ops.precision import Precision
from jsafe.options import Options, number, seam, traced
from jsafe.types import Part

EPOCHS = Replay(
    num_envs=6,
    unroll=1000,
    updates=2000,
    sequences=1280,
    sequence_length=2,
    replay_rows=200_000,
    random_steps=10_000,
)
"""An epoch of the paper's size."""


@dataclasses.dataclass(frozen=True)
class CrabsConfig(Options):
    """Options of CRABS; the defaults are the published sizes, which take hours per epoch without an accelerator."""

    actor: Part = seam("actor", Gaussian(hidden=(64, 64)), Actor)
    """The policy; its own loss is not used."""
    barrier: Part = seam("barrier", Box(), Barrier)
    """The certificate."""
    certify: Part = seam("certificate", Certify(), Certify)
    """How it is looked for."""
    dynamics: Part = seam("dynamics", Ensemble(hidden=(256, 256, 256, 256), scaled=True), Dynamics)
    """The models."""
    temperature: Part = seam("temperature", Learned(init=0.1), Temperature)
    """How the policy's entropy weighs."""
    feed: Replay = EPOCHS
    """How experience is collected and replayed; each of the E models learns from a share of the windows, the
    actor-critic from the first share."""

    critic_hidden: tuple[int, ...] = number((256, 256), low=1)
    """Hidden widths of the two critics."""
    gamma: float = traced(0.99, low=0, high=1)
    """Discount factor."""
    tau: float = traced(0.005, low=0, high=1)
    """Share of the critics mixed into their slow copies after an update."""
    learning_rate: float = traced(3e-4, above=0)
    """Adam's, of actor, critics and temperature."""
    adversary_learning_rate: float = traced(3e-4, above=0)
    """Adam's, of the actor's adversarial steps."""
    decay: float = number(1e-4, low=0)
    """L2 penalty of the adversarial steps."""
    critic_warmup: int = number(10_000, low=0)
    """Updates of the critics alone with which the guarded phase begins."""
    pretrain_margin: float = number(0.05, low=0)
    """eps while the first certificate is looked for."""
    quiet_steps: int = number(12_000, low=1)
    """Environment steps (all envs) without a violation after which the initial policy is tried."""
    trial_steps: int = number(12_000, low=1)
    """Environment steps of the trial: mean and sampled episodes of the initial policy have to be safe."""
    pretrain_penalty: float = number(10.0, low=0)
    """What leaving the safe box costs the initial policy, in reward."""
    pretrain_effort: float = number(0.1, low=0)
    """What the mean square of its actions costs the initial policy: without it nothing keeps it from chattering, and
    around a policy that overshoots there is hardly a set that it does not leave."""
    pretrain_weights: tuple[float, ...] = number((1.0,), low=0)
    """Weights of the squares of the bounded components in the initial policy's reward, in the order of `spec.safe`;
    a single one is for all. Where a component's bound is tight, its square in units of it dwarfs the others."""
    pretrain_average: float = number(1.0, above=0, high=1)
    """Share of the policy mixed into its average after every update of phase 0; the average is what is tried and
    certified. 1: the last one, which the next minibatch would have changed."""
    candidates: int = number(100, low=2)
    """Actions that the guard tries."""
    noise: float = number(2.0, low=0)
    """Factor of the policy's noise in every third environment; another third acts at random, the last as the policy."""
    matmul_precision: Precision = "float32"
    """Precision of matrix products on accelerators; see `jsafe.ops.precision`."""

    SHORT: ClassVar[dict[str, Any]] = {
        "hidden": lambda value: dict.fromkeys(
            ("actor.hidden", "barrier.hidden", "dynamics.hidden", "critic_hidden"), value
        ),
        **{name: f"feed.{name}" for name in ("num_envs", "unroll", "sequences", "sequence_length", "updates")},
        **{name: f"feed.{name}" for name in ("frame_stack", "replay_rows", "initial_rows", "random_steps")},
    }

    def __post_init__(self):
        super().__post_init__()
        size = getattr(self.dynamics, "size", 1)
        if self.feed.sequences % size:
            raise ValueError(f"sequences must be a multiple of the models, {size}, got {self.feed.sequences}")
        if self.feed.sequence_length != 2 or self.feed.frame_stack != 1:
            raise ValueError(
                "sequence_length must be 2 and frame_stack 1: states are what the certificate is about, got "
                f"{self.feed.sequence_length} and {self.feed.frame_stack}"
            )
