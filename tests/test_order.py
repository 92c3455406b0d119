"""The order of data as a pure function."""

import concurrent.futures
import subprocess
import sys
import threading

import numpy as np
import pytest

from inception_jax.data import order

FIRST_ORDER = [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
FIRST_DRAWS = [0.6231734690657775, 0.4225662167001766]


@pytest.mark.parametrize(("examples", "batch_size"), [(10, 4), (7, 7), (5, 12), (100, 1)])
def test_each_epoch_has_every_example_once(examples, batch_size):
    epochs_wanted = 3
    steps = -(-epochs_wanted * examples // batch_size)
    batches = [order.batch_order(3, step, batch_size, examples) for step in range(steps)]
    epochs, indices = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    for epoch in range(epochs_wanted):
        assert sorted(indices[epochs == epoch]) == list(range(examples))


def test_epochs_and_seeds_are_shuffled_differently():
    orders = [order.epoch_order(seed, epoch, 1000) for seed in (0, 1) for epoch in (0, 1)]
    for i, one in enumerate(orders):
        assert np.any(one != np.arange(1000))
        for other in orders[:i]:
            assert np.mean(one == other) < 0.01


def test_the_first_values_never_change():
    """A run must resume under another version of NumPy: these numbers are part of the format."""
    assert order.epoch_order(0, 0, 10).tolist() == FIRST_ORDER
    np.testing.assert_array_equal(order.uniform_draws(1, 2, 3, 2), FIRST_DRAWS)


def test_threads_sort_an_epoch_once(monkeypatch):
    """Eight threads ask for each of three epochs at the same moment."""
    threads, sorts = 8, []
    argsort, start = np.argsort, threading.Barrier(threads)

    def counted(*arguments, **options):
        sorts.append(threading.get_ident())
        return argsort(*arguments, **options)

    def read(_: int) -> list[list[int]]:
        orders = []
        for epoch in range(3):
            start.wait()
            orders.append(order.epoch_order(11, epoch, 100_000)[:5].tolist())
        return orders

    monkeypatch.setattr(np, "argsort", counted)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(read, range(threads)))
    assert len(sorts) == 3
    assert all(orders == found[0] for orders in found)
    order.epoch_order(11, 1, 100_000)
    assert len(sorts) == 3  # the last two are kept
    order.epoch_order(11, 0, 100_000)
    assert len(sorts) == 4  # and no more: 10 MB each for ILSVRC


def test_no_state_between_calls():
    code = (
        "from inception_jax.data import order;"
        "print(order.batch_order(5, 12345, 8, 1000)[1].tolist())"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for step in range(3):
        order.batch_order(5, step, 8, 1000)
    assert alone.stdout.strip() == str(order.batch_order(5, 12345, 8, 1000)[1].tolist())


def test_draws_are_uniform_and_independent():
    draws = np.stack([order.uniform_draws(0, epoch, i, 4) for epoch in (0, 1) for i in range(2000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(0), 0.5, atol=0.02)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(4), atol=0.06)
    assert np.all(draws[:2000] != draws[2000:])  # another epoch, other draws
