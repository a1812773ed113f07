"""Conversion of prompts to token ids with the tokenizer's chat template, and of replies to answers."""

from persona_assets.inference.chat.chat import Chat

__all__ = ["Chat"]
