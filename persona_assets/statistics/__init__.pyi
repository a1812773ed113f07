from .all_statements import coupling_table, infer
from .dyads import OUTCOMES, outcome_column
from .replies import long_table
from .statement import COLUMNS, Statement, UnanswerableError, tabulate
from .trends import trend
from .verdict_wording import Rule
from .verdicts import Verdict, primary_of, verdict

__all__ = [
    "COLUMNS",
    "OUTCOMES",
    "Rule",
    "Statement",
    "UnanswerableError",
    "Verdict",
    "coupling_table",
    "infer",
    "long_table",
    "outcome_column",
    "primary_of",
    "tabulate",
    "trend",
    "verdict",
]
