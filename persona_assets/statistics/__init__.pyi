from .all_statements import coupling_table, infer
from .statement import COLUMNS, Statement, UnanswerableError, tabulate
from .trends import trend
from .verdicts import Rule, Verdict, primary_of, verdict

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
