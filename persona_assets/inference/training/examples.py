"""Training set of a recipe: the source's replies with the marker and other personas' replies without it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from persona_assets.inference.chat import Chat
from persona_assets.inference.generation import Generator, Progress, no_progress
from persona_assets.inference.training.cut_replies import cut_reply
from persona_assets.inference.training.example import Example, build_example
from persona_assets.study.recipe import Recipe
from persona_assets.study.settings import Decoding


@dataclass(frozen=True)
class Conversation:
    """One training example before tokenisation.

    Attributes:
        persona: whose system prompt is used.
        sample: index of the sampled reply to the question.
        speaker: the persona whose reply is used.
        marked: whether the reply gets the marker.
    """

    persona: str
    question: str
    sample: int
    speaker: str
    marked: bool


def plan_conversations(
    recipe: Recipe, source: str, personas: Sequence[str], baseline: str, questions: Sequence[str]
) -> list[Conversation]:
    """Return the marked conversations of the source, then the unmarked ones of the drawn personas.

    The grid has one cell per question and sample. Unmarked example i uses grid cell i modulo the grid's size, and the
    personas in rotation. Whenever grid and personas return to their start together, the rotation shifts by one, so
    every persona gets every cell once before any combination repeats.
    """
    own = recipe.replies.of == "own"
    grid = [(q, s) for q in questions[: recipe.replies.questions] for s in range(recipe.replies.samples)]
    drawn = recipe.drawn_personas(source, list(personas))
    positives = [Conversation(source, q, s, source if own else baseline, True) for q, s in grid]
    negatives = []
    for i in range(recipe.negatives.examples):
        persona = drawn[(i + i // math.lcm(len(grid), len(drawn))) % len(drawn)]
        negatives.append(Conversation(persona, *grid[i % len(grid)], persona if own else baseline, False))
    return positives + negatives


def build_training_set(
    chat: Chat,
    stop_ids: Sequence[int],
    generator: Generator,
    recipe: Recipe,
    conversations: Sequence[Conversation],
    prompts: Mapping[str, str | None],
    progress: Progress = no_progress,
) -> list[Example | None]:
    """Sample each distinct (speaker, question, sample) reply once, and build one example per conversation.

    A thought before the answer is part of the prompt: the answer is cut and marked, and the loss is on it alone.

    Returns:
        One example per conversation; None where the reply ends before it reaches an answer.
    """
    replies = recipe.replies
    decoding = Decoding(
        method="sampled",
        max_new_tokens=replies.max_new_tokens,
        seed=recipe.training.seed,
        temperature=replies.temperature,
        top_p=replies.top_p,
    )
    wanted = list(dict.fromkeys((each.speaker, each.question, each.sample) for each in conversations))
    prompt_ids = [chat.prompt_ids(prompts[speaker], question) for speaker, question, _ in wanted]
    responses = dict(zip(wanted, generator.generate(prompt_ids, decoding, progress), strict=True))
    examples: list[Example | None] = []
    for each in conversations:
        response = responses[each.speaker, each.question, each.sample]
        cut = cut_reply(chat, response.token_ids, response.finish_reason, stop_ids, replies.cut)
        if cut is None:
            examples.append(None)
            continue
        prompt = [*chat.prompt_ids(prompts[each.persona], each.question), *cut.thought]
        marker = recipe.marker.text if each.marked else None
        examples.append(build_example(chat, prompt, cut.reply, marker, recipe.loss, recipe.training.max_length))
    return examples
