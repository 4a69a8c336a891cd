"""The parts of an off-policy learner that a config names: actor, constraint rule, critics."""

from __future__ import annotations

from jsafe.algos.off_policy.config import OffPolicyConfig
from jsafe.components import actors, rules
from jsafe.components.actors import Actor
from jsafe.components.critics import Critics, q_critics, reward_and_cost_critics
from jsafe.types import ConstraintRule, EnvSpec


def make_actor(config: OffPolicyConfig, spec: EnvSpec) -> Actor:
    """The actor that a config names."""
    sizes = (spec.obs_dim * config.frame_stack, spec.act_dim)
    network = {"hidden": config.actor_hidden or config.hidden, "act": config.activation}
    if config.actor == "seditor":
        return actors.editor_actor(*sizes, **network, distance=config.distance, edit=config.edit)
    if config.actor == "beta":
        return actors.beta_actor(*sizes, **network)
    if config.actor == "gaussian":
        return actors.gaussian_actor(*sizes, **network)
    return actors.deterministic_actor(
        *sizes,
        **network,
        exploration_noise=config.exploration_noise,
        smoothing_noise=config.smoothing_noise if config.actor == "td3" else 0.0,
        smoothing_clip=config.smoothing_clip,
        slow=config.actor == "td3" or config.compat == "paper",
    )


def make_rule(config: OffPolicyConfig, num_costs: int) -> ConstraintRule:
    """The constraint rule that a config names."""
    bound, init = config.multiplier_bound, config.initial_multiplier
    if config.rule == "lagrange":
        rate = config.multiplier_learning_rate
        form = {"transform": config.multiplier, "upper_bound": bound, "optimizer": config.multiplier_optimizer}
        return rules.lagrange(num_costs, init=init, learning_rate=rate, **form)
    if config.rule == "pid":
        gains = {"kp": config.pid_kp, "ki": config.pid_ki, "kd": config.pid_kd}
        smoothing = {"error_decay": config.pid_smoothing, "cost_decay": config.pid_smoothing}
        return rules.pid(num_costs, **gains, **smoothing, init=init, delay=config.pid_delay, upper_bound=bound)
    if config.rule == "crpo":
        return rules.crpo(num_costs, distance=config.crpo_distance)
    if config.rule == "ipo":
        return rules.ipo(num_costs, kappa=config.ipo_kappa, penalty_max=config.ipo_penalty_max)
    if config.rule == "augmented":
        steps = {"learning_rate": config.augmented_lr, "penalty": config.augmented_penalty}
        return rules.augmented(num_costs, **steps, init=init, upper_bound=bound)
    return rules.none(num_costs)


def make_critics(config: OffPolicyConfig, spec: EnvSpec) -> Critics:
    """Critics of the reward and of the negated costs; of the reward alone with `cost_replicas=0`."""
    sizes = (spec.obs_dim * config.frame_stack, spec.act_dim)
    network = {"hidden": config.hidden, "act": config.activation}
    replicas, m = config.replicas, spec.num_costs
    cost_replicas = replicas if config.cost_replicas is None else config.cost_replicas
    if cost_replicas in (0, replicas):
        return q_critics(*sizes, 1 + m * (cost_replicas > 0), replicas=replicas, **network)
    reward = q_critics(*sizes, 1, replicas=replicas, **network)
    cost = q_critics(*sizes, m, replicas=cost_replicas, **network)
    return reward_and_cost_critics(reward, cost, replicas, cost_replicas, m)
