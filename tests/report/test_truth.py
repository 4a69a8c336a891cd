"""Branched rollouts against sums that are known, and what is told about critics."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jsafe
from jsafe import cli
from jsafe.components.reward_normalizer import MovingNormalizer
from jsafe.envs.api import Spec, Step
from jsafe.report import benchmark, truth
from jsafe.runs import branching
from jsafe.runs.folder import RunError
from jsafe.spaces import Box
from jsafe.sweeps import reproduce
from jsafe.types import NO_MEMORY, ActOutput, EnvSpec, Estimates, Learner, PolicyState


class Countdown:
    """The state is a number that falls by 1 a step: reward 1, cost the number; the episode ends (or is cut) at 0."""

    def __init__(self, num_envs, cut=False):
        self.num_envs, self.cut = num_envs, cut
        self.spec = Spec("countdown", Box(1), Box(1, -1.0, 1.0), 1, 50, ("number",), {}, 0.1)
        self.left = np.zeros(num_envs)

    def reset(self, seed=None, *, mask=None):
        self.left[:] = 5.0
        return self.observe()

    def step(self, actions):
        cost, self.left = self.left.copy(), self.left - 1
        over = self.left <= 0
        final = self.observe()
        self.left = np.where(over, 5.0, self.left)
        ended, cut = (over & False, over) if self.cut else (over, over & False)
        return Step(self.observe(), np.ones(self.num_envs), cost[:, None], ended, cut, final, {})

    def observe(self):
        return self.left[:, None].copy()

    def get_state(self, i):
        return {"step": 7, "left": float(self.left[i])}

    def set_state(self, i, state):
        assert state["step"] == 0  # a whole horizon lies ahead
        self.left[i] = state["left"]


def learner_of(env, estimate=None):
    spec = EnvSpec(1, 1, horizon=50)

    def act(policy_state, memory, obs, key, deterministic=False):
        return ActOutput(jnp.zeros((len(obs), 1)), jnp.zeros(len(obs)), {}, memory)

    return Learner(
        lambda key: (), lambda *x: None, lambda state: PolicyState(()), act, NO_MEMORY, None, None, spec, estimate
    )


def ask(state, memory, obs, action):
    return Estimates(obs[:, 0] * 10, obs, jnp.float32(0.5), jnp.float32(0.25))


@pytest.mark.parametrize("cut", [False, True])
def test_branches_sum_what_happens_until_the_episode_ends(cut):
    env = Countdown(4, cut)
    starts = [branching.Start({"step": 3, "left": x}, ()) for x in (1.0, 2.0, 5.0)]
    found = branching.cost_to_go(env, learner_of(env, ask), (), starts, 3, 4, jax.random.key(0))
    assert found.reward.shape == (3, 3)
    np.testing.assert_allclose(found.reward, np.repeat([[1.0], [1.5], [1.875]], 3, axis=1))
    np.testing.assert_allclose(found.cost[..., 0], np.repeat([[1], [2.25], [5 + 1 + 3 / 16 + 2 / 64]], 3, axis=1))
    np.testing.assert_allclose(found.spent[..., 0], np.repeat([[1], [3], [14]], 3, axis=1))
    np.testing.assert_array_equal(found.cut, np.repeat([[cut], [cut], [False]], 3, axis=1))
    np.testing.assert_allclose(found.estimate.reward, [10, 20, 50])
    np.testing.assert_allclose(found.estimate.cost[:, 0], [1, 2, 5])


class Coins:
    """A cost of 1 where the action is above 0; the only noise is the policy's."""

    def __init__(self, num_envs):
        self.num_envs = num_envs
        self.spec = Spec("coins", Box(1), Box(1, -1.0, 1.0), 1, 50, ("head",), {}, 0.1)

    def reset(self, seed=None, *, mask=None):
        return self.observe()

    def step(self, actions):
        never, obs = np.zeros(self.num_envs, bool), self.observe()
        return Step(obs, np.zeros(self.num_envs), (actions > 0).astype(float), never, never, obs, {})

    def observe(self):
        return np.zeros((self.num_envs, 1))

    def set_state(self, i, state):
        """There is none."""


def test_branches_are_independent_and_their_mean_is_the_truth():
    def toss(policy_state, memory, obs, key, deterministic=False):
        return ActOutput(jax.random.normal(key, (len(obs), 1)), jnp.zeros(len(obs)), {}, memory)

    env, gamma, n = Coins(50), 0.8, 1000
    starts = [branching.Start({"step": 0}, ())] * 2
    learner = learner_of(env)._replace(act=toss)
    found = branching.cost_to_go(env, learner, (), starts, n, 5, jax.random.key(0), gamma=gamma)
    cost = found.cost.ravel()
    truth_, variance = 0.5 * (1 - gamma**5) / (1 - gamma), 0.25 * (1 - gamma**10) / (1 - gamma**2)
    assert abs(cost.mean() - truth_) < 3 * np.sqrt(variance / cost.size)
    assert cost.var() == pytest.approx(variance, rel=0.1)
    chunks = cost.reshape(-1, 50).mean(axis=1)  # of one round each: the same noise in all would leave no spread
    assert chunks.var() == pytest.approx(variance / 50, rel=0.7)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        branching.visited(env, learner, PolicyState(()), 0, jax.random.key(0))


def test_without_critics_the_discount_is_given():
    env = Countdown(2)
    start = [branching.Start({"step": 0, "left": 2.0}, ())]
    with pytest.raises(ValueError, match="gamma must be given"):
        branching.cost_to_go(env, learner_of(env), (), start, 1, 5, jax.random.key(0))
    found = branching.cost_to_go(env, learner_of(env), (), start, 1, 5, jax.random.key(0), gamma=1.0)
    assert (found.reward.item(), found.cost.item(), found.estimate) == (2.0, 3.0, None)
    with pytest.raises(ValueError, match="rollouts must be at least 1, got 0"):
        branching.cost_to_go(env, learner_of(env), (), start, 0, 5, jax.random.key(0), gamma=1.0)


def test_visited_states_are_spread_over_the_episode():
    env = Countdown(4)
    found = branching.visited(env, learner_of(env), PolicyState(()), 40, jax.random.key(1))
    assert len(found) == 40
    assert {start.engine["left"] for start in found} == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_a_task_without_states_cannot_be_branched():
    env = jsafe.envs.make("Toy-SpeedLimit-v0", 1, 0)
    with pytest.raises(RunError, match=r"Toy-SpeedLimit-v0 cannot be branched: it has no get_state, set_state$"):
        branching.check_branches(env)


def test_calibration_of_a_critic_that_is_known_to_be_off():
    rng = np.random.default_rng(0)
    value = rng.standard_normal(4000) * 3
    rollouts = value[:, None] + rng.standard_normal((4000, 8)) * 2
    about = truth.calibrate("cost", 0.5 * value + 1.0, rollouts)
    assert about.bias == pytest.approx(1.0, abs=0.1)
    assert about.slope == pytest.approx(2.0, abs=0.03)
    assert about.correlation == pytest.approx(3 / np.sqrt(9 + 0.5), abs=0.01)
    assert about.rmse == pytest.approx(np.sqrt(1 + 0.25 * 9), abs=0.05)  # without the noise of the branches
    assert about.noise == pytest.approx(2 / np.sqrt(8), abs=0.02)


def test_verdicts_are_shares_of_states():
    estimate, rollouts = np.array([0.0, 2.0, 2.0, 0.0]), np.array([[0, 0], [0, 1], [3, 5], [2, 2.0]])
    verdict = truth.judge("cost", 1.5, estimate, rollouts, rollouts)
    assert verdict == truth.Verdict("cost", 1.5, unsafe=0.5, missed=0.25, alarmed=0.25, free=0.5)


def test_what_a_limit_allows_in_the_unit_of_critics():
    assert truth.evenly(0.025, 0.99, 460) == pytest.approx(2.5)
    assert truth.evenly(0.025, 1.0, 400) == pytest.approx(10)


def test_normalised_values_become_raw_ones():
    """Of a stream that never ends, the discounted sum of normalised signals gives back that of the raw ones."""
    normalizer, rng = MovingNormalizer().build(EnvSpec(3, 2)), np.random.default_rng(0)
    signals = jnp.asarray(rng.uniform(1, 3, (2000, 2)), jnp.float32)
    state = normalizer.update(normalizer.init(), signals)
    weights = 0.99 ** jnp.arange(2000)
    scaled = (weights[:, None] * normalizer.apply(state, signals)).sum(axis=0)
    raw = (weights[:, None] * signals).sum(axis=0)
    np.testing.assert_allclose(normalizer.restore(state, scaled[None], 0.99)[0], raw, rtol=1e-4)
    np.testing.assert_allclose(normalizer.restore(state, scaled[None, :1], 0.99)[0], raw[:1], rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ppo_lag", {"num_envs": 2, "steps_per_epoch": 16, "normalize_reward": True}),
        ("sac_lag", {"num_envs": 2, "sequences": 4, "frame_stack": 2, "normalize_obs": True, "updates": 1}),
        ("seditor", {"num_envs": 2, "sequences": 4}),
    ],
)
def test_critics_are_asked_in_raw_units(name, options):
    """Twice the rewards and costs seen, with all else equal, are worth twice as much where they are normalised."""
    learner = jsafe.make(name, EnvSpec(4, 2, horizon=8), hidden=(8,), **options)
    state = learner.init(jax.random.key(0))
    obs, action = jax.random.normal(jax.random.key(3), (5, 4)), jnp.zeros((5, 2))
    said = learner.estimate(state, learner.memory.init(5), obs, action)
    assert (said.reward.shape, said.cost.shape) == ((5,), (5, 1))
    assert np.isfinite([*said.reward, *said.cost[:, 0]]).all()
    if name == "ppo_lag":
        one, two = (state.signal_stats._replace(count=jnp.float32(4), m2=jnp.full(2, 4.0 * s * s)) for s in (3, 6))
        few, more = (learner.estimate(state._replace(signal_stats=stats), (), obs, action) for stats in (one, two))
        np.testing.assert_allclose(more.reward, 2 * few.reward, rtol=1e-5)
        np.testing.assert_allclose(more.cost, few.cost)
    assert jsafe.make("ppo_saute", EnvSpec(4, 2)).estimate is None


def test_the_command_asks_a_run(tmp_path, capsys):
    run = str(tmp_path / "run")
    train = "train ppo_lag --env SafetyPointGoal1-v0 --total-steps 64 --num-envs 2 --steps-per-epoch 64 --hidden 4"
    train += " --passes 1 --gamma 0.5 --cost-gamma 0.5 --cost-limit 25 --no-tensorboard"
    assert cli.main([*train.split(), "--run-dir", run]) == 0
    assert cli.main(["truth", run, "--states", "3", "--rollouts", "2", "--length", "4"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 states, 2 branches of each" in printed
    assert "cost: missed, false alarms" in printed
    rows = list(csv.DictReader((tmp_path / "run" / "truth.csv").read_text().splitlines()))
    assert len(rows) == 3
    assert all(np.isfinite(float(row["cost estimate"])) for row in rows)
    assert (tmp_path / "run" / "truth.png").stat().st_size > 1000
    reward, cost = asked = reproduce.ask("cell", tmp_path / "run", 3)  # what a benchmark keeps of it
    assert (reward.signal, cost.signal, cost.seed, cost.states, cost.rollouts) == ("reward", "cost", 0, 3, 16)
    assert np.isnan(reward.unsafe)
    assert 0 <= cost.missed <= cost.unsafe <= 1
    rows = list(csv.DictReader((tmp_path / "run" / "truth.csv").read_text().splitlines()))
    assert cost.truth == pytest.approx(np.mean([float(row["cost truth"]) for row in rows]), rel=1e-4)
    benchmark.write_rows(asked, tmp_path / "critics.csv")
    assert str(benchmark.read_rows(tmp_path / "critics.csv", benchmark.Critic)) == str(asked)  # NaN is not NaN
    assert benchmark.merge(asked, asked) == asked
    told = benchmark.critics_markdown([benchmark.Cell("cell", "", "T", "ppo_lag", "", "", 25.0, 64, "host")], asked)
    assert told.count("| `ppo_lag` | T | 0 |") == 2
    assert cli.main(["truth", run, "--output", "a.foo"]) == 2
    assert "output must end in one of" in capsys.readouterr().err
    assert cli.main(["truth", run, "--states", "1"]) == 2
    assert "states must be at least 2" in capsys.readouterr().err
