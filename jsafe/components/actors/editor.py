"""SEditor's pair of policies: a utility maximiser proposes, a safety editor edits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jsafe.components.actors.base import Actor, ActorLoss, Draw
from jsafe.components.actors.beta import (
    CONCENTRATION_GRADIENT_NORM,
    beta_network,
    clipped_concentrations,
    draw_beta,
)
from jsafe.distributions import beta
from jsafe.nets.perceptron import Activation, Layers
from jsafe.ops.editing import edit_action, edit_distance
from jsafe.options import number, part
from jsafe.types import EnvSpec


@part("actor", "editor")
@dataclasses.dataclass(frozen=True)
class Editor(Layers):
    """Two Beta policies in a row.

    Maximiser (Eq. 7a): `L = -Q_r(s, h(p, d)) + alpha_p log pi(p | s)` with the editor frozen; the derivative of `Q_r`
    is total, through `p` and through the editor's answer `d ~ psi(. | s, p)`.
    Editor (Eq. 7b, 8): `L = sum_m w_m Q_m(s, a) + w_r D + alpha_d log psi(d | s, p)` with the maximiser frozen,
    `a = h(p, d)`, `D = relu(Q_r(s, p) - Q_r(s, a))`.

    The two losses use independent samples. The maximiser's path through the editor is damped by the row clip of the
    concentration gradient, which acts on the derivative of the *sum* over rows, as in the released code.

    Source: Yu, Xu & Zhang 2022 (arXiv 2201.12427), section 4 and the released code.
    """

    hidden: tuple[int, ...] = number((256, 256, 256), low=1)
    activation: Activation = "tanh"
    distance: Literal["hinge", "l2", "none"] = "hinge"
    """What an edit costs the editor; `l2` and `none` are the paper's ablations."""
    edit: Literal["add", "overwrite", "soft"] = "add"
    """How an edit acts on a proposal; `overwrite` and `soft` are ablations."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Actor:
        """An `Actor` with the policies `maximizer` and `editor`; the draw has the `proposal` in its extras."""
        del axis_name
        names: dict[str, Any] = {"distance": self.distance, "edit": self.edit}
        return editor_actor(spec.obs_dim, spec.act_dim, self.hidden, self.activation, **names)


def editor_actor(
    obs_dim: int,
    act_dim: int,
    hidden: Sequence[int],
    act: str,
    *,
    distance: str = "hinge",
    edit: str = "add",
    max_norm: float = CONCENTRATION_GRADIENT_NORM,
) -> Actor:
    """`Editor` for given sizes; `max_norm` is the row clip of the gradient at the concentrations."""
    maximizer = beta_network(obs_dim, act_dim, hidden, act)
    editor = beta_network(obs_dim, act_dim, hidden, act, late_dim=act_dim)
    frozen = jax.lax.stop_gradient

    def init(key):
        keys = jax.random.split(key)
        return {"maximizer": maximizer.init(keys[0]), "editor": editor.init(keys[1])}

    def draw(params, obs, key, deterministic=False):
        keys = jax.random.split(key)
        proposal, log_p = draw_beta(maximizer.apply(params["maximizer"], obs), keys[0], deterministic)
        delta, log_d = draw_beta(editor.apply(params["editor"], obs, proposal), keys[1], deterministic)
        log_probs, extras = {"maximizer": log_p, "editor": log_d}, {"proposal": proposal, "delta": delta}
        return Draw(edit_action(proposal, delta, edit), log_probs, extras)

    def loss(params, key, inputs):
        obs, q, weights, alpha = inputs.obs, inputs.q, inputs.weights, inputs.alpha
        keys = jax.random.split(key, 4)
        conc_p = clipped_concentrations(maximizer.apply(params["maximizer"], obs), max_norm)
        h = editor.embed(params["editor"], obs)

        proposal = beta.sample(keys[0], *conc_p)
        log_p = beta.log_prob(proposal, *conc_p)

        def utility(proposal):
            conc = clipped_concentrations(editor.tail(frozen(params["editor"]), frozen(h), proposal), max_norm)
            delta = beta.sample(keys[1], *conc)
            action = edit_action(proposal, delta, edit)
            return q.reward(action).sum(), action

        slope, action = jax.grad(utility, has_aux=True)(frozen(proposal))
        rows_p = alpha["maximizer"] * log_p - jnp.sum(frozen(slope) * proposal, axis=-1)

        given = frozen(beta.sample(keys[2], *map(frozen, conc_p)))
        conc_d = clipped_concentrations(editor.tail(params["editor"], h, given), max_norm)
        delta = beta.sample(keys[3], *conc_d)
        log_d = beta.log_prob(delta, *conc_d)
        edited = edit_action(given, delta, edit)
        values = q.values(edited)
        paid = edit_distance(distance, given, edited, q.reward(given), values.reward)
        rows_d = alpha["editor"] * log_d + (values.cost @ weights.cost + weights.reward * paid)

        metrics = {
            "loss/editor": rows_d.mean(),
            "edit/size": jnp.abs(edited - given).mean(),
            "edit/distance": paid.mean(),
            "edit/active": (paid > 0).astype(jnp.float32).mean(),
        }
        log_probs = {"maximizer": log_p, "editor": log_d}
        return ActorLoss(rows_p + rows_d, frozen(Draw(action, log_probs)), metrics, inputs.state)

    return Actor(init, draw, loss, ("maximizer", "editor"))
