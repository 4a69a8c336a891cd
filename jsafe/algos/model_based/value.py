"""The value learner of a planner: off-policy, on the same replay; it proposes plans and values their ends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jsafe.algos.off_policy import assembly
from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components.actors import Gaussian
from jsafe.components.compat import Compat, Released
from jsafe.components.critics import Ensemble
from jsafe.components.rules import NoRule
from jsafe.components.temperature import Learned, Temperature
from jsafe.feeds import Replay
from jsafe.nets.perceptron import Activation
from jsafe.ops.stats import psum
from jsafe.options import number, part, seam
from jsafe.types import Array, Batch, EnvSpec, Key, Metrics, Part

TOLD = ("loss", "entropy", "temperature", "q")
"""Groups of its metrics that are of interest here."""


class Value(NamedTuple):
    """An actor and a critic.

    Attributes:
      init: `key -> state`.
      update: `(state, batch, key) -> (state, metrics)`; the batch is the planner's.
      params: `state -> params`, all that planning needs.
      propose: `(params, obs [R, O], key, deterministic) -> action [R, A]`.
      end: `(params, final [R, O], last action [R, A]) -> [R]`: what the last observation of a plan is worth.
      afresh: `params -> []`: what a problem is worth that begins as a goal has been met, in the mean.
      minibatches: Number of minibatches that an update takes.
    """

    init: Callable[[Key], Any]
    update: Callable[[Any, Batch, Key], tuple[Any, Metrics]]
    params: Callable[[Any], Any]
    propose: Callable[[Any, Array, Key, Any], Array]
    end: Callable[[Any, Array, Array], Array]
    afresh: Callable[[Any], Array]
    minibatches: int


class SACState(NamedTuple):
    """The state of the `learner`, the mean worth of states in which a problem began `afresh`, of so many `seen`."""

    learner: Any
    afresh: Array
    seen: Array


REMEMBERED = 1000.0
"""States that the mean worth of new problems is of, about: it follows the critics."""


@part("value", "none")
@dataclasses.dataclass(frozen=True)
class NoValue(Released):
    """Plans end where they end."""

    def build(
        self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper", nets: int = 1
    ) -> Value | None:
        """None."""
        del spec, axis_name, compat, nets
        return None


@part("value", "sac")
@dataclasses.dataclass(frozen=True)
class SAC(Released):
    """Soft actor-critic on real steps, without costs: the end of a plan is worth `min_j Q_j(s_H, pi(s_H))`.

    Minibatches are those of the model's nets: windows of one net make one of them.

    Source: Sikchi et al. 2021 (arXiv 2008.10066). OmniSafe (`compat="omnisafe"`): the first critic at the plan's last
    action, which was taken one step before, and no rows in which a goal was met.
    """

    updates: int = number(20, low=1)
    """Updates per iteration."""
    hidden: tuple[int, ...] = number((256, 256), low=1)
    """Hidden widths of actor and critics."""
    activation: Activation = "relu"
    loss_at: Literal["sample", "mean"] = "sample"
    """Where the actor's loss is taken; see the actor `gaussian`."""
    learning_rate: float = number(1e-3, above=0)
    """Of actor, critics and temperature."""
    gamma: float = number(0.99, low=0, high=1)
    """Discount factor of the critics; rewards within a plan have their own, `discount`."""
    tau: float = number(0.005, low=0, high=1)
    """Share of the online critics mixed into the targets."""
    temperature: Part = seam("temperature", Learned(), Temperature)
    """How the policy's entropy weighs."""
    policy_delay: int = number(1, low=1)
    """Critic updates per update of actor and targets."""
    max_grad_norm: float | None = number(None, above=0)
    """Largest norm of a gradient."""

    def build(
        self, spec: EnvSpec, axis_name: str | None = None, compat: Compat = "paper", nets: int = 1
    ) -> Value | None:
        """A `Value`; minibatches are one of `nets` parts of the planner's."""
        released = compat == "omnisafe"
        actor = Gaussian(hidden=self.hidden, activation=self.activation, loss_at=self.loss_at)
        critics = Ensemble(hidden=self.hidden, activation=self.activation, cost_replicas=0)
        config = OffPolicyConfig(
            actor=actor,
            critics=critics,
            rule=NoRule(),
            temperature=self.temperature,
            feed=Replay(num_envs=1, sequences=1, sequence_length=2, updates=self.updates, initial_rows=0),
            gamma=self.gamma,
            tau=self.tau,
            critic_learning_rate=self.learning_rate,
            actor_learning_rate=self.learning_rate,
            policy_delay=self.policy_delay,
            max_grad_norm=self.max_grad_norm,
        )
        inner = assembly.assemble(config, spec, axis_name)
        networks = critics.build(spec, axis_name)

        def update(state, batch, key):
            steps, jump = batch.steps._replace(extras={}), batch.steps.extras.get("jump")
            if released and jump is not None:
                steps = steps._replace(weight=jnp.where(jump, 0.0, steps.weight))
            axis = steps.weight.ndim - 1

            def dealt(x):
                """`[..., T, B, ...]` as `[minibatch, T, B / nets, ...]`; of one minibatch without the first axis."""
                x = x.reshape((1,) * (2 - axis) + x.shape)
                x = x.reshape(*x.shape[:2], -1, nets, *x.shape[3:])
                x = jnp.moveaxis(x, 3, 1)
                x = x.reshape(-1, *x.shape[2:])[: self.updates]
                return x[0] if self.updates == 1 else x

            learner, metrics = inner.update(state.learner, batch._replace(steps=jax.tree.map(dealt, steps)), key)
            state = state._replace(learner=learner)
            if jump is not None:
                one = jax.tree.map(lambda x: x if axis == 1 else x[0], (batch.steps.obs, batch.steps.weight, jump))
                state = begun(state, *one)
            return state, {name: x for name, x in metrics.items() if name.partition("/")[0] in TOLD}

        def begun(state, obs, weight, jump):
            """`state` that has seen what problems begin in `[T, B]` rows."""
            new, first, told = (weight[:-1] > 0) & jump[:-1], obs[1:].reshape(-1, obs.shape[-1]), params(state)
            worth = end(told, first, propose(told, first, jax.random.key(0), True)).reshape(new.shape)
            total, more = psum((jnp.where(new, worth, 0.0).sum(), new.sum().astype(jnp.float32)), axis_name)
            seen = jnp.maximum(jnp.minimum(state.seen + more, REMEMBERED), more)
            afresh = state.afresh + (total - more * state.afresh) / jnp.maximum(seen, 1.0)
            return state._replace(afresh=afresh, seen=seen)

        def params(state):
            critic = state.learner.params["critic"]
            return {"actor": inner.policy(state.learner), "critic": critic, "afresh": state.afresh}

        def propose(params, obs, key, deterministic):
            return inner.act(params["actor"], (), obs, key, deterministic).action

        def end(params, final, last):
            if released:
                one = jax.tree.map(lambda x: x[:1], params["critic"])
                return networks.reward(one, networks.embed(one, final), last)
            action = propose(params, final, jax.random.key(0), True)
            return networks.reward(params["critic"], networks.embed(params["critic"], final), action)

        def init(key):
            return SACState(inner.init(key), jnp.zeros(()), jnp.zeros(()))

        return Value(init, update, params, propose, end, lambda params: params["afresh"], self.updates)
