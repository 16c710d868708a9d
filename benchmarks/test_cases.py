"""The rows of `stylegan-ops benchmark` as tests of pytest-benchmark, for those who track regressions: the native form of each.

    pytest benchmarks --benchmark-json new.json [-k "bias_act and float32"]
    python benchmarks/compare.py old.json new.json

They are no part of the test suite. Needs pip install "stylegan_ops[bench]".
"""

from __future__ import annotations

import pytest

from stylegan_ops import keep_freed_memory
from stylegan_ops.benchmark.cases import Case, Options
from stylegan_ops.benchmark.run import SECTIONS

OPTIONS = Options(compare=("native",))
CASES = [case for cases in SECTIONS.values() for case in cases(OPTIONS)]


@pytest.fixture(scope="module", autouse=True)
def warm_allocator() -> None:
    keep_freed_memory()


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_native(benchmark, case: Case) -> None:
    work = case.build()
    benchmark.group = case.group
    benchmark.extra_info.update(case.facts)
    benchmark(work.forms["native"])
