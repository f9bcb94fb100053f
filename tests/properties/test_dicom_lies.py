"""Random damage to one tag or byte of a series: accepted means right to 1e-3 mm, or told; no other error escapes."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.io.dicom.mutate import Base, Mutation, base, mutations, outcome

QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return base(tmp_path_factory.mktemp("lies") / "series")


@settings(max_examples=200, derandomize=True, deadline=None, database=None, suppress_health_check=QUIET)
@given(mutations())
def test_one_changed_tag_is_refused_told_or_harmless(unharmed: Base, mutation: Mutation) -> None:
    assert outcome(unharmed, mutation) in {"refused", "told", "right"}


def test_the_unharmed_series_is_right(unharmed: Base) -> None:
    assert outcome(unharmed, Mutation((), "", None)) == "right"


@pytest.mark.soak
def test_20000_changed_tags(unharmed: Base) -> None:
    counted: Counter[str] = Counter()

    @settings(
        max_examples=20_000,
        deadline=None,
        database=None,
        suppress_health_check=QUIET,
        phases=[Phase.generate, Phase.shrink],
    )
    @given(mutations())
    def soak(mutation: Mutation) -> None:
        counted[outcome(unharmed, mutation)] += 1

    soak()
    print(counted)  # noqa: T201 - `make soak` shows it
    assert sum(counted.values()) >= 20_000
    assert min(counted[fate] for fate in ("refused", "told", "right")) > 500
