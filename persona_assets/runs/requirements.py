"""Checks of a study that need no model, made before a model does any work."""

from persona_assets import metrics
from persona_assets.checkpoints import CheckpointError, Identity
from persona_assets.study import Study


def require_readable_files(study: Study) -> None:
    """Read every file that the study names: leakage counts and source rates.

    Raises:
        LeakageError: a file cannot be read or does not fit the study's personas; names the file.
    """
    if study.leakage is not None:
        read = metrics.read_marker_eval if study.leakage.is_dir() else metrics.read_leakage_table
        read(study.leakage, study.categories)
    if study.source_rates is not None:
        metrics.read_source_rates(study.source_rates, study.personas)


def require_layers(study: Study, identity: Identity) -> None:
    """Require that a model has all of the study's layers.

    Raises:
        StudyError: names the layer and the number of blocks.
    """
    study.blocks(identity.blocks)


def require_system_role(study: Study, identity: Identity, checkpoint: str) -> None:
    """Require a chat template with a system role if the study refuses others.

    Raises:
        CheckpointError: the template has none, so that personas would go elsewhere.
    """
    if identity.system_prompt and study.chat.without_system_role == "refuse":
        raise CheckpointError(
            f"{checkpoint}: the chat template has no system role, and the study says chat.without_system_role: refuse; "
            f"expected a template with a system role, or first_user to put personas into the {identity.system_prompt}"
        )
