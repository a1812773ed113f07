"""Inference over dyads: a pair table in, statements out. No Dagster, no model, no file.

`infer` makes every statement twice, as the field reports it and as the dependence between dyads allows; `verdict` says
in words what they come to. pingouin, SciPy and statsmodels do what they do; the rest has its formula and its paper.
"""

from persona_assets.statistics.all_statements import coupling_table, infer
from persona_assets.statistics.statement import COLUMNS, Statement, UnanswerableError, tabulate
from persona_assets.statistics.trends import trend
from persona_assets.statistics.verdicts import Rule, Verdict, primary_of, verdict

__all__ = [
    "COLUMNS",
    "Rule",
    "Statement",
    "UnanswerableError",
    "Verdict",
    "coupling_table",
    "infer",
    "primary_of",
    "tabulate",
    "trend",
    "verdict",
]
