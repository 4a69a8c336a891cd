"""Finding a barrier certificate: chains that look for states where it fails, and a gradient that mends it there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jsafe.components.barriers import SearchBox, level_box
from jsafe.ops import mala
from jsafe.options import Options, number, part
from jsafe.types import Array, EnvSpec, Key, Params

OUTSIDE = 1000.0
"""What a state outside of the certified set loses of its density."""

StateFn = Callable[[Array], Array]
"""`obs [n, O] -> [n]`."""


class Search(NamedTuple):
    """Chains of states in a box.

    Attributes:
      chains: In the box's coordinates z; the states are `centre + half z`.
      moment: `[B, O]`, Adam's second moment of the projection.
      projections: Its steps, int32.
      box: Where chains begin.
    """

    chains: mala.Chains
    moment: Array
    projections: Array
    box: SearchBox

    @property
    def states(self) -> Array:
        """`[B, O]`."""
        return self.box.centre + self.box.half * self.chains.point


class Seen(NamedTuple):
    """What the chains have seen: the share that was `masked` (the certificate fails there), and their acceptance."""

    masked: Array
    accepted: Array


class Training(NamedTuple):
    """A certificate under way: its parameters, Adam's state, the chains; steps so far and clean ones of late."""

    params: Params
    opt_state: Any
    search: Search
    steps: Array
    clean: Array
    seen: Seen


@part("certificate", "adversarial")
@dataclasses.dataclass(frozen=True)
class Certify(Options):
    """How a certificate h of a policy is looked for.

    It holds where no state has `h(s) < 0` and `u(s, pi(s)) + eps > 0`: the objective is `obj = u + eps`, and a state is
    masked where both are so. Chains sample `exp(obj / T)` inside the set, and h takes one step per step of theirs,

        min_h max_{h(s) < 0} u(s, pi(s)),   gradient  sum_i w_i d obj(s_i) - lam_i d h(s_i),   w_i = mask_i / sum mask
        lam_i = w_i |d obj / d s_i| / max(|d h / d s_i|, 1e-6)

    by the envelope theorem (lam is the multiplier of `h(s) < 0` at a maximum on the edge), and a regulariser that keeps
    the old set: `0.001 sum_i relu(h(s_i) - h_ref(s_i))`.

    Source: Luo & Ma 2021 (arXiv 2108.01846), algorithms 3 and 4, with the authors' code for what the paper leaves open.
    There chains begin anywhere in the box, and again only when none has failed for long. Their acceptance of moves is
    wrong (`ops.mala.log_accept`); ours is right unless `squares` says otherwise.
    """

    chains: int = number(10_000, low=1)
    """States that look for a failure, B."""
    margin: float = number(0.01, low=0)
    """eps: by how much the next state has to be inside."""
    temperature: float = number(0.03, above=0)
    """T of the chains' density."""
    learning_rate: float = number(3e-4, above=0)
    """Adam's, of h."""
    decay: float = number(1e-4, low=0)
    """L2 penalty of h's weights."""
    keep: float = number(1e-3, low=0)
    """Weight of the regulariser, per chain."""
    max_steps: int = number(20_000, low=1)
    """Steps after which a search gives up."""
    renew: int = number(1000, low=1)
    """Steps after which the box is measured anew, and the chains start again."""
    clean: int = number(5000, low=1)
    """Clean steps in a row after which the certificate counts as found."""
    projections: int = number(10, low=0)
    """Adam steps, at most, by which stray chains come back before each move."""
    draws: int = number(10_000, low=1)
    """States per round of measuring the box, and of which the chains begin at a sample."""
    squares: float = number(0.5, above=0)
    """Factor of the noise's square in the acceptance: 1/2 is right, 1 is what was released."""

    def build(self, spec: EnvSpec, axis_name: str | None = None) -> Certify:
        """Itself; every device of a mapped axis does the same search."""
        del spec, axis_name
        return self

    def begin(self, value: StateFn, objective: StateFn, start: Array, key: Key) -> Search:
        """Chains at a sample, by their density, of `draws` states that are uniform in the box around `h < 0`.

        In four dimensions a tenth of the box or less is inside, and chains that begin anywhere in it are still on their
        way in when they begin again; and those that sit in one corner do not see what fails in another.
        """
        box_key, point_key, choice_key = jax.random.split(key, 3)
        box = level_box(value, start, box_key, draws=self.draws)
        shape = (max(self.draws, self.chains), start.shape[0])
        drawn = jax.random.uniform(point_key, shape, minval=-1.0, maxval=1.0)
        density = self._density(box, value, objective)(drawn)
        # The largest of `density + Gumbel noise` are a sample of the density, without replacement.
        _, chosen = jax.lax.top_k(density + jax.random.gumbel(choice_key, density.shape), self.chains)
        rows, zeros = jnp.zeros((self.chains, start.shape[0])), jnp.zeros(self.chains)
        return Search(mala.Chains(drawn[chosen], zeros, rows, zeros + 0.01), rows, jnp.zeros((), jnp.int32), box)

    def _density(self, box: SearchBox, value: StateFn, objective: StateFn) -> StateFn:
        """Logarithm of what the chains sample, of the box's coordinates."""

        def density(z):
            s = box.centre + box.half * z
            h = value(s)
            return jnp.where(h < 0.0, objective(s), -h - OUTSIDE) / self.temperature

        return density

    def blank(self, width: int) -> Search:
        """A search of the right shapes that has not begun."""
        zeros, rows = jnp.zeros(self.chains), jnp.zeros((self.chains, width))
        chains = mala.Chains(rows, zeros, jnp.zeros_like(rows), jnp.full(self.chains, 0.01))
        box = SearchBox(jnp.zeros(width), jnp.ones(width))
        return Search(chains, jnp.zeros_like(rows), jnp.zeros((), jnp.int32), box)

    def advance(self, search: Search, value: StateFn, objective: StateFn, key: Key) -> tuple[Search, Seen]:
        """One move of all chains.

        Args:
          search: The chains.
          value: h.
          objective: `obs [n, O] -> u(s, pi(s)) + eps [n]`.
          key: Of the moves.
        """
        search = self._projected(search, value)
        box = search.box
        density = self._density(box, value, objective)

        def target(z):
            found, pull = jax.vjp(density, z)
            return found, pull(jnp.ones_like(found))[0]

        chains = mala.start(target, search.chains.point, search.chains.tau)  # nets have moved since the last step
        chains, accepted = mala.step(
            target, chains, key, lambda z: value(box.centre + box.half * z) < 0.0, squares=self.squares
        )
        search = search._replace(chains=chains)
        masked = chains.value > 0.0  # the objective itself inside, below zero outside
        return search, Seen(masked.mean(dtype=jnp.float32), accepted.mean())

    def _projected(self, search: Search, value: StateFn) -> Search:
        """Chains that have left the set `h < 0` come back down its slope: unless they are few."""
        box = search.box

        def penalty(z):
            return jax.nn.relu(value(box.centre + box.half * z) - self.temperature)

        def strays(z):
            return (penalty(z) > 0.0).mean(dtype=jnp.float32) >= 0.1

        def body(carry):
            z, moment, count, i, _ = carry
            grad = jax.grad(lambda z: penalty(z).sum())(z)
            moment, count = 0.999 * moment + 0.001 * jnp.square(grad), count + 1
            z = z - 1e-3 * grad / (jnp.sqrt(moment / (1.0 - 0.999 ** count.astype(jnp.float32))) + 1e-8)
            return z, moment, count, i + 1, strays(z)

        first = (search.chains.point, search.moment, search.projections, jnp.int32(0), strays(search.chains.point))
        z, moment, count, *_ = jax.lax.while_loop(lambda c: c[4] & (c[3] < self.projections), body, first)
        return search._replace(chains=search.chains._replace(point=z), moment=moment, projections=count)

    def gradient(
        self,
        params: Params,
        states: Array,
        value: Callable[[Params, Array], Array],
        objective: Callable[[Params, Array], Array],
        reference: StateFn | None = None,
    ) -> Params:
        """The gradient of `max_{h(s) < 0} obj(s)` with respect to h's parameters, at the maximisers `states`.

        Args:
          params: Of h.
          states: `[B, O]`.
          value: `(params, obs) -> h`.
          objective: `(params, obs) -> obj`.
          reference: h_ref, of the set that is to be kept; None: none.
        """

        def slope(function):
            found, pull = jax.vjp(function, states)
            return found, jnp.linalg.norm(pull(jnp.ones_like(found))[0], axis=-1)

        h, steep = slope(lambda s: value(params, s))
        found, climb = slope(lambda s: objective(params, s))
        mask = ((h < 0.0) & (found > 0.0)).astype(jnp.float32)
        weight = mask / jnp.maximum(mask.sum(), 1.0)
        lam = weight * climb / jnp.maximum(steep, 1e-6)

        def loss(params):
            h = value(params, states)
            total = (weight * objective(params, states)).sum() - (lam * h).sum()
            if reference is not None:
                total += self.keep * jax.nn.relu(h - reference(states)).sum()
            return total

        return jax.grad(loss)(params)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam of h, with its penalty."""
        return optax.chain(optax.add_decayed_weights(self.decay), optax.adam(self.learning_rate))

    def train(
        self,
        params: Params,
        opt_state: Any,
        search: Search,
        start: Array,
        value: Callable[[Params, Array], Array],
        objective: Callable[[Params, Array], Array],
        key: Key,
        reference: StateFn | None = None,
    ) -> Training:
        """Looks for a certificate; found where `clean` has reached its option.

        Args:
          params, opt_state: Of h.
          search: The chains.
          start: `[O]`.
          value: `(params, obs) -> h`.
          objective: `(params, obs) -> u(s, pi(s)) + eps`.
          key: Of chains and boxes.
          reference: See `gradient`.
        """
        adam = self.optimizer()

        def again(old, new):
            """Chains from anew, which know by now how far a move goes."""
            tau = jnp.full_like(old.chains.tau, jnp.median(old.chains.tau))
            return new._replace(chains=new.chains._replace(tau=tau))

        def body(state):
            step_key, box_key = jax.random.split(jax.random.fold_in(key, state.steps))

            def h(obs):
                return value(state.params, obs)

            def failure(obs):
                return objective(state.params, obs)

            search, seen = self.advance(state.search, h, failure, step_key)

            def mended(params, opt_state):
                grads = self.gradient(params, search.states, value, objective, reference)
                updates, opt_state = adam.update(grads, opt_state, params)
                return optax.apply_updates(params, updates), opt_state

            fails = seen.masked > 0.0
            params, opt_state = jax.lax.cond(fails, mended, lambda *same: same, state.params, state.opt_state)
            clean = jnp.where(fails, 0, state.clean + 1)
            due = (state.steps + 1) % self.renew == 0
            search = jax.lax.cond(due, lambda s: again(s, self.begin(h, failure, start, box_key)), lambda s: s, search)
            return Training(params, opt_state, search, state.steps + 1, clean, seen)

        zero = jnp.zeros((), jnp.int32)
        first = Training(params, opt_state, search, zero, zero, Seen(jnp.float32(0), jnp.float32(0)))
        return jax.lax.while_loop(lambda s: (s.steps < self.max_steps) & (s.clean < self.clean), body, first)
