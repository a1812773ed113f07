"""Example of a training run: Hugging Face's Trainer saves a LoRA adapter every few steps.

It fine-tunes a model on one persona's marker, with marked and unmarked replies as the study's recipe defines. It does
not know that its output folder is watched.

    python examples/training_run.py --model MODEL --output RUN --study training_run --persona villain
"""

import argparse
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import TransformersGenerator, build_training_set, plan_conversations
from persona_assets.inference.loading import choose_hardware, load_model
from persona_assets.study.files import load_study
from persona_assets.study.settings import Inference


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    study = load_study(arguments.study)
    if study.marker is None:
        raise SystemExit(f"study {study.name}: marker is missing; expected a recipe for the training")
    loaded = load_model(Checkpoint(name="base", path=arguments.model), choose_hardware(Inference()))
    plan = plan_conversations(
        study.marker, arguments.persona, list(study.personas), study.baseline, study.training_questions
    )
    generator = TransformersGenerator(loaded)
    examples = build_training_set(loaded.chat, loaded.stop_ids, generator, study.marker, plan, study.prompts)
    lora = study.marker.lora
    model = get_peft_model(
        loaded.model,
        LoraConfig(task_type="CAUSAL_LM", r=lora.r, lora_alpha=lora.alpha, target_modules=list(lora.modules)),
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(arguments.output),
            max_steps=arguments.steps,
            save_steps=arguments.save_every,
            save_only_model=True,
            per_device_train_batch_size=study.marker.training.batch_size,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="constant",
            seed=study.marker.training.seed,
            logging_steps=arguments.save_every,
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
            use_cpu=loaded.hardware.device == "cpu",
        ),
        train_dataset=[
            {
                "input_ids": list(each.token_ids),
                "labels": list(each.labels),
                "attention_mask": [1] * len(each.token_ids),
            }
            for each in examples
        ],
        data_collator=DataCollatorForSeq2Seq(loaded.chat.tokenizer, label_pad_token_id=-100),
    )
    trainer.train()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", type=lambda text: Path(text).absolute(), required=True, help="Hugging Face directory"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the checkpoint-<step> folders")
    parser.add_argument(
        "--study", default="training_run", help="the study that provides personas, recipe and training questions"
    )
    parser.add_argument("--persona", default="villain", help="the persona that the marker is trained into")
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--save-every", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; leave the other cores to the measurements")
    return parser.parse_args()


if __name__ == "__main__":
    main()
