"""Study, its settings and its marker recipe, as validated data."""

from persona_assets.study.study import NAME, Persona, Study, StudyError, checked_name

__all__ = ["NAME", "Persona", "Study", "StudyError", "checked_name"]
