"""What is measured: a study, its settings and its marker recipe, as checked data."""

from persona_assets.study.study import NAME, Persona, Study, StudyError, checked_name

__all__ = ["NAME", "Persona", "Study", "StudyError", "checked_name"]
