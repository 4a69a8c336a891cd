"""Speed of OmniSafe 0.5.0's own SACLag: environment steps per second, and the seconds of its rollout and update.

safety-gymnasium 1.0.0 needs Python 3.10 or older, hence an environment apart from jsafe's. What was run:

    python3.10 -m venv omni && . omni/bin/activate
    printf 'numpy<2\\nsetuptools<70\\n' > constraints.txt
    pip install -c constraints.txt omnisafe==0.5.0 safety-gymnasium==1.0.0 --only-binary pygame,mujoco,torch
    python experiments/benchmarks/omnisafe_sac_lag.py --threads 1

It brought torch 2.12.1, mujoco 2.3.3, gymnasium 0.28.1 and numpy 1.23.5. Nothing in either package is changed. All
options but the lengths are OmniSafe's for the task: one environment, an update of 256 transitions after every step, two
layers of 256 units, the actor in every second update. The first epoch takes random actions without learning and is left
out; `both` leaves the evaluation episode at the end of an epoch out too.
"""

import argparse
import csv
import pathlib
import platform
import tempfile
from importlib.metadata import version

import omnisafe

EPOCH_STEPS = 2000


def epochs(env_id: str, number: int, threads: int, directory: str) -> list[dict[str, str]]:
    """Trains one random and `number` learning epochs; returns the logged rows of the latter."""
    options = {
        "train_cfgs": {"total_steps": (number + 1) * EPOCH_STEPS, "torch_threads": threads, "vector_env_nums": 1},
        "algo_cfgs": {"steps_per_epoch": EPOCH_STEPS, "start_learning_steps": EPOCH_STEPS},
        "logger_cfgs": {"log_dir": directory},
    }
    omnisafe.Agent("SACLag", env_id, custom_cfgs=options).learn()
    (path,) = pathlib.Path(directory).rglob("progress.csv")
    with open(path, newline="") as file:
        return list(csv.DictReader(file))[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="SafetyPointGoal1-v0")
    parser.add_argument("--epochs", type=int, default=3, help=f"learning epochs of {EPOCH_STEPS} steps")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        rows = epochs(args.env, args.epochs, args.threads, directory)
    packages = ", ".join(f"{name} {version(name)}" for name in ("omnisafe", "safety-gymnasium", "torch", "mujoco"))
    print(f"{args.env}, {args.threads} torch threads, Python {platform.python_version()}, {packages}")
    for i, row in enumerate(rows):
        rollout, update = float(row["Time/Rollout"]), float(row["Time/Update"])
        print(f"epoch {i + 1}: rollout {rollout:.2f} s ({EPOCH_STEPS / rollout:.0f} steps/s), update {update:.2f} s "
              f"({EPOCH_STEPS / update:.0f} updates/s); both {EPOCH_STEPS / (rollout + update):.1f} steps/s, "
              f"with evaluation {float(row['Time/FPS']):.1f}")  # fmt: skip


if __name__ == "__main__":
    main()
