"""Every entry of the catalogue, on several random problems."""

import pytest

from linfa.theory import results

RESULTS = {result.key: result for result in results()}


def test_keys_are_unique():
    assert len(RESULTS) == len(results())


@pytest.mark.parametrize("key", RESULTS)
@pytest.mark.parametrize("seed", range(3))
def test_results_agree_with_simulation(key, seed):
    result = RESULTS[key]
    assert result.measure(seed) <= result.tolerance


@pytest.mark.parametrize("key", RESULTS)
def test_statements_are_whole(key):
    result = RESULTS[key]
    assert result.statement == result.statement.strip()
    assert any(word in result.source for word in ("read", "known", "derived here"))
    assert "new" not in result.source.split()
