"""What an exchange sends, against plain concatenation."""

import pytest
import torch

from workbench.embeddings.exchange import end_to_end

BUFFER = torch.arange(24.0)
# name -> parts, and whether they lie one after the other in memory
PARTS = {
    "adjacent": ([BUFFER[2:8].view(2, 3), BUFFER[8:12].view(2, 2), BUFFER[12:14].view(2, 1)], True),
    "one": ([BUFFER[4:10].view(2, 3)], True),
    "with an empty one": ([BUFFER[:6].view(2, 3), BUFFER[6:6].view(2, 0), BUFFER[6:8].view(2, 1)], True),
    "gap": ([BUFFER[0:6].view(2, 3), BUFFER[8:12].view(2, 2)], False),
    "wrong order": ([BUFFER[6:12].view(2, 3), BUFFER[0:6].view(2, 3)], False),
    "twice the same": ([BUFFER[0:6].view(2, 3), BUFFER[0:6].view(2, 3)], False),
    "columns of one matrix": (list(BUFFER.view(4, 6).split([2, 4], dim=1)), False),
    "transposed": ([BUFFER[0:6].view(2, 3).t(), BUFFER[6:12].view(2, 3)], False),
    "another storage": ([BUFFER[0:6].view(2, 3), torch.ones(2, 3)], False),
    # Offsets that would follow each other, were the storage the same.
    "the same place of another storage": ([BUFFER[0:6].view(2, 3), torch.ones(24)[6:12].view(2, 3)], False),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_end_to_end(name):
    parts, shared = PARTS[name]
    flat = end_to_end(parts)
    assert flat.tolist() == [value for part in parts for value in part.flatten().tolist()]
    assert flat.is_contiguous() and (flat.data_ptr() == parts[0].data_ptr()) == shared
