"""The first hour: OmniSafe's spellings, both units of a limit, completion in a shell."""

import shutil
import subprocess

import pytest

from jsafe import cli, registry
from jsafe.components.limits import CostLimit, limit_of

OMNISAFE = """PolicyGradient NaturalPG TRPO PPO PDO RCPO OnCRPO CPO PCPO FOCOPS CUP PPOLag TRPOLag CPPOPID TRPOPID DDPG
TD3 SAC DDPGLag TD3Lag SACLag DDPGPID TD3PID SACPID P3O IPO PPOSimmerPID TRPOSimmerPID PPOSaute TRPOSaute
PPOEarlyTerminated
TRPOEarlyTerminated"""


@pytest.mark.parametrize("name", OMNISAFE.split())
def test_omnisafes_spelling_is_understood(name):
    found = registry.get(name).name
    assert found in registry.names()
    assert found.replace("_", "") == name.lower()


def test_a_spelling_of_nobody_is_an_error_with_the_closest_match():
    with pytest.raises(ValueError, match="unknown algorithm 'PPOLagg'; did you mean 'ppo_lag'"):
        registry.get("PPOLagg")


def test_a_limit_is_told_in_both_units():
    assert CostLimit(25.0).told(["cost"], 1000) == "cost: 25 per episode (0.025 per step of 1000)"
    two = CostLimit((5e-4, 0.1), per="step").told(["hazards", "vases"], 999)
    assert two.startswith("hazards: 0.0005 per step (0.499 per episode of 999 steps), vases: 0.1 per step (99.9 per")
    assert limit_of(registry.get("ppo").config) is None  # it ignores the costs
    assert limit_of(registry.get("ppo_lag").config) == CostLimit(25.0)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_shell_completes_what_there_is(capsys, tmp_path):
    assert cli.main(["completion", "bash"]) == 0
    script = tmp_path / "jsafe.sh"
    script.write_text(capsys.readouterr().out)
    asked = {
        "ev": "evaluate",
        "train trpo_l": "trpo_lag",
        "train trpo_lag --cost-limit-p": "--cost-limit-per-step",
        "train ppo_lag --env Toy-Sp": "Toy-SpeedLimit-v0",
        "play SafetyAntRun0-": "SafetyAntRun0-v0",
        "train --resu": "--resume",
        "evaluate --video-": "--video-episodes",
        f"plot {script.parent}/jsafe": str(script),
    }
    lines = [f". {script}", 't() { COMP_WORDS=(jsafe "$@"); COMP_CWORD=$#; _jsafe; echo "${COMPREPLY[*]}"; }']
    lines += [f"t {words}" for words in asked]
    said = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    assert said.stdout.splitlines() == list(asked.values())
