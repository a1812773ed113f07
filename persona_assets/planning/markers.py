"""Cost estimate of the assets that train a marker and measure its leakage."""

from persona_assets.planning.memory import Need
from persona_assets.planning.rates import MEASURED, Machine
from persona_assets.planning.stage import Sizes, Stage, per_machine, reply_length, sampled, usable
from persona_assets.study.recipe import Recipe

# Tokens of one training from which on its blocks are compiled on a GPU, as `inference.training` does.
COMPILED_FROM = 4_000_000
# Tokens of a reply truncated after its first sentence.
SENTENCE = 16
# Tokens of a marker.
MARKER = 5


def marker_stages(sizes: Sizes, recipe: Recipe, need: Need) -> list[Stage]:
    """Return the stages of training a marker into every source with every seed, and of measuring its leakage.

    Args:
        need: memory for training.
    """
    sampled_replies = max(recipe.base_samples, recipe.evaluation.samples)
    stages = [_training_replies(sizes, recipe), _marker_adapter(sizes, recipe, need)]
    if sampled_replies:
        stages.append(_sampled_by("base replies", sizes, recipe, sampled_replies))
    stages.append(_marker_log_probs(sizes, recipe))
    if recipe.evaluation.samples:
        samples = recipe.evaluation.samples * _adapters(sizes, recipe)
        stages.append(_sampled_by("marker_rates", sizes, recipe, samples))
    return stages


def _adapters(sizes: Sizes, recipe: Recipe) -> int:
    return len(sizes.study.sources) * len(recipe.training.seeds)


def _training_replies(sizes: Sizes, recipe: Recipe) -> Stage:
    """Estimate the training replies, sampled for each source and seed: questions × samples per persona."""
    grid, unmarked = recipe.replies.questions * recipe.replies.samples, 0
    if recipe.replies.of == "own":  # otherwise all personas use the baseline's replies
        drawn = len(recipe.drawn_personas(sizes.study.sources[0], list(sizes.study.personas)))
        unmarked = min(recipe.negatives.examples, drawn * grid)
    replies = _adapters(sizes, recipe) * (grid + unmarked)
    return sampled("training replies", sizes, replies, recipe.replies.max_new_tokens)


def _marker_adapter(sizes: Sizes, recipe: Recipe, need: Need) -> Stage:
    """Estimate training: a forward pass and the gradient of the activations; frozen weights have no gradient."""
    examples = recipe.replies.questions * recipe.replies.samples + recipe.negatives.examples
    passes = _adapters(sizes, recipe) * examples * recipe.training.epochs
    length = min(
        recipe.training.max_length,
        sizes.prompt + _cut(reply_length(recipe.replies.max_new_tokens, sizes.given), recipe),
    )
    flops = 2 * passes * sizes.shape.forward_flops(length, with_logits=recipe.loss.where == "completion")

    compiled = examples * recipe.training.epochs * length >= COMPILED_FROM

    def seconds(machine: Machine) -> float:
        if machine.gib and need.on(usable(sizes.study, machine)) != need.words[0]:
            return flops / machine.retrain
        return flops / (machine.train if compiled or not machine.gib else machine.train * MEASURED["uncompiled"].value)

    return Stage("marker_adapter", passes, 0, 0, passes * length, flops, per_machine(seconds))


def _marker_log_probs(sizes: Sizes, recipe: Recipe) -> Stage:
    """Estimate the marker's log-probability behind every reply, with every adapter and once without any."""
    study, samples = sizes.study, recipe.base_samples
    limit = recipe.evaluation.max_new_tokens if samples or not study.decoding else study.decoding.max_new_tokens
    models = _adapters(sizes, recipe) + 1
    prompts = len(study.targets) * len(study.questions)
    reply = _cut(reply_length(limit, sizes.given), recipe) + MARKER
    # Replies to one question share its prompt; a model that is scored whole reads it again for each.
    read = prompts * (max(1, samples) if sizes.shape.scored_whole else 1) * models
    passes = prompts * max(1, samples) * models
    flops = read * sizes.shape.forward_flops(sizes.prompt, with_logits=False)
    flops += passes * sizes.shape.forward_flops(reply, sizes.prompt, with_logits=False)
    seconds = per_machine(lambda machine: flops / machine.score)
    return Stage("marker_log_probs", passes, read * sizes.prompt, 0, passes * reply, flops, seconds)


def _cut(tokens: float, recipe: Recipe) -> float:
    return min(tokens, SENTENCE) if recipe.replies.cut == "sentence" else tokens


def _sampled_by(name: str, sizes: Sizes, recipe: Recipe, samples: int) -> Stage:
    """Estimate this many replies of every target to every question, sampled as the recipe's evaluation says."""
    replies = len(sizes.study.targets) * len(sizes.study.questions) * samples
    return sampled(name, sizes, replies, recipe.evaluation.max_new_tokens)
