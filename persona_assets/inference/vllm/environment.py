"""What vLLM's process gets of this process's environment, and what it is told there.

It reads a checkpoint that somebody else made and needs no network for that: it is given no secrets, and what it listens
on is loopback.
"""

import re
from collections.abc import Mapping

from persona_assets.files.redaction import SECRET_NAME

# What a person may set otherwise.
_DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    # Its first use compiles for a minute and a half.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    # The worker is a process of its own; a second one would only be slower to start and harder to end.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The model is not compiled (see the settings); for the rest, in the sampler, Dynamo costs 5 s and saves nothing.
    "TORCHDYNAMO_DISABLE": "1",
    # On a CPU.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
}
# One process meets nobody. A cluster's own settings (GLOO_SOCKET_IFNAME=eth0) would have it listen to the cluster.
_LOOPBACK = {"VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
_ADDRESS = re.compile(r"_(URL|URI|DSN|PROXY|ENDPOINT)$", re.IGNORECASE)  # may hold a password


def worker_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The environment of vLLM's process: `own` without what its name calls a secret, our defaults, and loopback."""
    kept = {name: value for name, value in own.items() if not (SECRET_NAME.search(name) or _ADDRESS.search(name))}
    return _DEFAULTS | kept | _LOOPBACK
