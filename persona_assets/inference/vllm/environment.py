"""Environment variables of vLLM's process.

The process reads an untrusted checkpoint and needs no network, so it gets no secrets and only listens on loopback.
"""

import re
from collections.abc import Mapping

from persona_assets.files.redaction import SECRET_NAME

# Defaults, which the user's environment overrides.
_DEFAULTS = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    # It compiles kernels for 90 s when first used.
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    # The worker is already a separate process; another one would start more slowly and be harder to stop.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # The model is not compiled (see VllmSettings), and in the sampler Dynamo costs 5 s without any speed-up.
    "TORCHDYNAMO_DISABLE": "1",
    # CPU only: KV cache in GiB, and no cores set aside for other processes.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
}
# A single process needs no network interface, and a cluster's GLOO_SOCKET_IFNAME=eth0 would expose its port.
_LOOPBACK = {"VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
_ADDRESS = re.compile(r"_(URL|URI|DSN|PROXY|ENDPOINT)$", re.IGNORECASE)  # the value may contain a password


def worker_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return `own` without variables whose names suggest a secret, plus the defaults and the loopback settings."""
    kept = {name: value for name, value in own.items() if not (SECRET_NAME.search(name) or _ADDRESS.search(name))}
    return _DEFAULTS | kept | _LOOPBACK
