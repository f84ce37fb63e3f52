import numpy as np
import pytest

from workbench.workloads.training.tile_product import COLUMNS, ROWS, multiply


@pytest.mark.parametrize("rows", [ROWS, 7 * ROWS])
@pytest.mark.parametrize("columns", [COLUMNS, 4 * COLUMNS])
@pytest.mark.parametrize("depth", [1, 28])
def test_a_product_of_tiles_is_that_of_the_matrices_and_touches_nothing_else(rows: int, depth: int, columns: int):
    random = np.random.default_rng(0)
    left = random.standard_normal((rows, depth), np.float32)
    right = random.standard_normal((depth, columns), np.float32)
    around = np.full((rows + 2, columns + 2 * COLUMNS), np.float32(7))

    multiply(left, right, around[1:-1, COLUMNS:-COLUMNS])

    expected = left.astype(np.float64) @ right
    np.testing.assert_allclose(around[1:-1, COLUMNS:-COLUMNS], expected, rtol=1e-5, atol=1e-5)
    around[1:-1, COLUMNS:-COLUMNS] = 7
    assert (around == 7).all()
