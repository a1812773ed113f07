"""The breaks that scripts/broken_copies.py makes can still be made, and their tests are still there."""

import re
import runpy
from pathlib import Path


def test_every_break_still_fits_the_code(repository: Path) -> None:
    breaks = runpy.run_path(str(repository / "scripts" / "broken_copies.py"))["breaks"]()
    assert len({each.name for each in breaks}) == len(breaks) > 20
    for each in breaks:
        assert each.broken != (repository / each.file).read_text(encoding="utf-8")
        for test in each.tests:
            file, _, name = test.partition("::")
            pattern = rf"^def {re.escape(name.partition('[')[0])}\("
            assert re.search(pattern, (repository / file).read_text(encoding="utf-8"), re.MULTILINE), test
