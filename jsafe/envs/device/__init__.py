"""Environments that run inside the compiled program, one episode as pure functions; and the way back to the host."""

from jsafe.envs.device.api import DeviceEnv, DeviceSpec
from jsafe.envs.device.hosted import HostedEnv, hosted
from jsafe.envs.device.vectorise import vectorise

__all__ = ["DeviceEnv", "DeviceSpec", "HostedEnv", "hosted", "vectorise"]
