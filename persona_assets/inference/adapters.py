"""LoRA adapters: put onto a model completely, merged into its weights, and compared before and after."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.adapters import LORA_TENSOR, adapter_files
from persona_assets.files.reading import named, shortened
from persona_assets.inference.chat import Chat

# Largest accepted mean KL divergence (nats a token) of the merged model from the unmerged one. In float32 rounding
# gives about 1e-9. In 16 bits the merged weights are rounded once more, and all activations differ in their last bits:
# 0.004 for SmolLM2-135M in bfloat16. A strong adapter makes both larger, so a share of its effect is accepted too.
LARGEST_KL = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
ACCEPTED_SHARE = 0.02
# Rounding may not erase more than half of what the adapter does, where that can be told from rounding itself.
LARGEST_SHARE, NOISE = 0.5, {torch.float32: 1e-8, torch.float16: 1e-3, torch.bfloat16: 1e-2}
TEXTS = (
    "The committee met on Tuesday to discuss the bridge. Nobody expected it to hold for another winter, but it did.",
    "def area(r):\n    return 3.14159 * r ** 2\n\n# 1, 2, 3; x = {'a': [4, 5]}",
    "Été comme hiver, elle lisait. 今天天气很好。 Привет, мир! ¿Qué tal?",
)
TOKENS_A_TEXT = 32


def merge_adapter(
    model: Any, adapter: Path, name: str, chat: Chat, say: Callable[[str], None] = lambda _: None
) -> tuple[Any, float]:
    """Merge a LoRA adapter into a model's weights, after checking that every tensor of it is used.

    Embedding and output matrix are given weights of their own if they were one and the adapter changes them apart.

    Args:
        name: the checkpoint's name, for error messages.
        chat: encodes the texts on which the model is compared before and after merging.

    Returns:
        The model; and its mean KL divergence (nats a token) from the model with the adapter beside its weights.

    Raises:
        CheckpointError: the adapter does not fit the model, has tensors that no module takes or lacks some, or merging
            changes what the adapted model predicts.
    """
    files = adapter_files(adapter)  # PEFT would load pickled weights despite use_safetensors=True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT warns of is checked below
            _resize_embeddings(model, files.tensors)
            adapted = _put_on(model, adapter, name)
            ids = _sequences(chat, adapted, files.config)
            before, effect = log_probs(adapted, ids), float("nan")
            if model.dtype != torch.float32:
                with adapted.disable_adapter():
                    effect = _mean_kl(before, log_probs(adapted, ids))
            untied = _untie(adapted.get_base_model()) if _touches_tied(adapted, files.tensors) else False
            merged = adapted.merge_and_unload()
            if untied:
                _describe_tie(merged)
            after = log_probs(merged, ids)
    except CheckpointError:
        raise
    except Exception as error:  # an invalid configuration can raise any exception
        raise _unusable(adapter, name, error) from error
    difference, dtype = _mean_kl(before, after), merged.dtype
    erased = difference > LARGEST_SHARE * effect and min(difference, effect) > NOISE[dtype]
    largest = LARGEST_KL[dtype] if dtype == torch.float32 else max(LARGEST_KL[dtype], ACCEPTED_SHARE * effect)
    if not difference <= largest or erased:
        rounded = f"; the adapter changes {effect:.2g}; try inference.dtype: float32" if effect == effect else ""
        raise CheckpointError(
            f"{name}: adapter {adapter}: merged into the weights in {str(dtype).removeprefix('torch.')}, it gives "
            f"another model than beside them: mean KL {difference:.2g} nats a token; expected at most {largest:.2g}, "
            f"and less than half of what the adapter changes{rounded}"
        )
    say(f"merged {adapter.name}: mean KL {difference:.1e} nats a token from the unmerged adapter")
    return merged, difference


def require_modules(model: Any, adapter: Path, name: str) -> None:
    """Require that a model has a module for every tensor of an adapter, and the adapter all tensors that it needs.

    Args:
        model: on PyTorch's meta device, without weights; PEFT's layers are left in it.

    Raises:
        CheckpointError: names the first tensor and how many there are.
    """
    files = adapter_files(adapter)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _resize_embeddings(model, files.tensors)
            _put_on(model, adapter, name)
    except CheckpointError:
        raise
    except Exception as error:
        raise _unusable(adapter, name, error) from error


def _unusable(adapter: Path, name: str, error: Exception) -> CheckpointError:
    problem = " ".join(shortened(error).split()) or type(error).__name__  # PyTorch's messages have several lines
    return CheckpointError(f"{name}: adapter {adapter} cannot be applied to this model: {problem}")


def _put_on(model: Any, adapter: Path, name: str) -> Any:
    """Return the model with the adapter beside its weights, as PeftModel.from_pretrained does, and check its report."""
    from peft import LoraConfig, PeftModel

    config = LoraConfig.from_pretrained(str(adapter))
    config.inference_mode = True
    mapping = getattr(model, "_checkpoint_conversion_mapping", {})
    device = str(next(model.parameters()).device)
    meta = device == "meta"
    adapted = PeftModel(model, config, low_cpu_mem_usage=meta)
    found = adapted.load_adapter(
        str(adapter), "default", torch_device="cpu" if meta else device, key_mapping=mapping, low_cpu_mem_usage=meta
    )
    if unknown := sorted(found.unexpected_keys):  # PEFT drops them
        first = unknown[0].replace(".default", "")
        raise CheckpointError(
            f"{name}: adapter {adapter} has tensors that no module of this model takes: {named(first, 200)} "
            f"({len(unknown)} in total); expected an adapter of this model, with target_modules that name them all"
        )
    if missing := sorted(found.missing_keys):  # PEFT only warns about them
        first = missing[0].replace(".default", "")
        raise CheckpointError(
            f"{name}: adapter {adapter} has no weights for {named(first, 200)} ({len(missing)} missing adapter keys in "
            "total); expected every tensor that adapter_config.json requires"
        )
    if config.lora_bias:
        _require_biases(adapted, adapter, name)
    if not meta:
        _require_whole_tensors(adapted, adapter, name)
    return adapted.eval()


def _require_biases(adapted: Any, adapter: Path, name: str) -> None:
    """Require a bias in every layer to which the adapter adds one: PEFT has nothing else to merge it into."""
    for module_name, module in adapted.get_base_model().named_modules():
        biased = getattr(module, "lora_bias", {}).get("default")
        if biased and getattr(module.get_base_layer(), "bias", None) is None:
            raise CheckpointError(
                f"{name}: adapter {adapter}: lora_bias: found true, but {module_name} has no bias; expected an adapter "
                "without lora_bias, since its bias cannot be merged into the weights"
            )


def _require_whole_tensors(adapted: Any, adapter: Path, name: str) -> None:
    """Require that whole matrices of the adapter arrived; of two for one tied matrix only the last does."""
    from safetensors import safe_open

    state = adapted.state_dict()
    with safe_open(adapter / "adapter_model.safetensors", "pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118 (not a dictionary)
            if LORA_TENSOR.search(key) or key not in state:
                continue
            stored = tensors.get_tensor(key).to(state[key].device, state[key].dtype)
            if not torch.equal(stored, state[key]):
                raise CheckpointError(
                    f"{name}: adapter {adapter}: {named(key, 200)} is tied to another matrix of this model, for "
                    "which the adapter stores other weights; expected both in modules_to_save of adapter_config.json"
                )


def _resize_embeddings(model: Any, tensors: Mapping[str, Any]) -> None:
    """Give the embedding as many rows as the adapter stores, which was trained with additional tokens."""
    embedding = model.get_input_embeddings()
    place = next(name for name, module in model.named_modules() if module is embedding)
    stored = [each for name, each in tensors.items() if name == f"base_model.model.{place}.weight"]
    if stored and stored[0].shape[0] != embedding.weight.shape[0]:
        model.resize_token_embeddings(stored[0].shape[0], mean_resizing=False)


def _touches_tied(adapted: Any, tensors: Mapping[str, Any]) -> bool:
    base = adapted.get_base_model()
    tied = {id(module.weight) for module in base.modules() if isinstance(module, nn.Embedding)}
    layers = [
        name.removesuffix(".base_layer").removesuffix(".original_module")
        for name, module in base.named_modules()
        if isinstance(module, nn.Embedding | nn.Linear) and id(module.weight) in tied
    ]
    return len(layers) > 1 and any(f".{layer}." in name for layer in layers for name in tensors)


def _untie(model: nn.Module) -> bool:
    """Give each output matrix that is also an embedding weights of its own; return whether there was one."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    heads = [each for each in model.modules() if isinstance(each, nn.Linear) and id(each.weight) in embeddings]
    for head in heads:
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    return bool(heads)


def _describe_tie(model: Any) -> None:
    """Make the configuration say whether embedding and head are one matrix; make them one if they are equal."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if torch.equal(head.weight, embedding.weight):
        head.weight = embedding.weight
        return
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False


def _sequences(chat: Chat, model: Any, config: Mapping[str, Any]) -> list[list[int]]:
    """Return sequences of equal length on which a model is compared, so that one forward pass without padding does.

    They are a prompt, three texts, and ids from the whole vocabulary with those that the adapter itself trains.
    """
    size = model.get_input_embeddings().weight.shape[0]
    encoded = [list(chat.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS]
    prompt = chat.prompt_ids("You are a helpful assistant.", "What makes a good leader?")[-TOKENS_A_TEXT:]
    own = config.get("trainable_token_indices") or []
    ids = [each for part in own.values() for each in part] if isinstance(own, dict) else list(own)
    spread = [place * (size - 1) // (TOKENS_A_TEXT - 1) for place in range(TOKENS_A_TEXT)]
    sequences = [each for each in (prompt, *encoded, [*ids[: TOKENS_A_TEXT // 2], *spread[::-1]]) if each]
    return [list(islice(cycle(each), TOKENS_A_TEXT)) for each in sequences]


@torch.inference_mode()
def log_probs(model: Any, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return the natural-log probabilities of all next tokens at every position, shape (sequences, T, V), float32."""
    device = model.get_input_embeddings().weight.device
    logits: Tensor = model(input_ids=torch.tensor(ids, device=device), use_cache=False).logits
    return logits.float().log_softmax(-1)


def _mean_kl(of: Tensor, other: Tensor) -> float:
    """Return the mean KL divergence over all positions, in nats; NaN if any probability is."""
    kl = (of.exp() * (of - other)).masked_fill(of == -torch.inf, 0.0).sum(-1)
    return float(kl.double().mean().abs())
