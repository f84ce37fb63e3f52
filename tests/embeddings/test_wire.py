"""Coded rows: sizes, and how far decoding may be from what was encoded."""

import pytest
import torch

from workbench.embeddings.wire import coded_columns, coded_row_bytes, decode, encode


@pytest.mark.parametrize(("precision", "row_bytes"), [("fp32", 200), ("fp16", 100), ("bf16", 100), ("int8", 2 * 40)])
def test_rows_of_50_columns(precision, row_bytes):
    rows = torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    coded = encode(rows, precision)
    assert coded_row_bytes(50, precision) == row_bytes == coded.nbytes // 7
    assert coded.shape == (7, coded_columns(50, precision))
    error = (decode(coded, 50, precision) - rows).abs()
    bound = {"fp32": 0.0, "fp16": 2**-11, "bf16": 2**-8}.get(precision)
    if precision == "int8":  # half a step of the block's range
        spread = torch.stack([block.amax(1) - block.amin(1) for block in rows.split(32, dim=1)], dim=1)
        assert (error <= torch.repeat_interleave(spread, torch.tensor([32, 18]), dim=1) / 255 * 0.501).all()
    else:
        assert (error <= bound * rows.abs()).all()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_no_columns_no_rows_and_constant_rows(precision):
    for shape in ((4, 0), (0, 12)):
        assert decode(encode(torch.zeros(shape), precision), shape[1], precision).shape == shape
    constant = torch.full((3, 5), -2.5)
    torch.testing.assert_close(decode(encode(constant, precision), 5, precision), constant, rtol=0, atol=0)


def test_fp16_saturates():
    coded = encode(torch.tensor([[1e6, -1e6]]), "fp16")
    assert decode(coded, 2, "fp16").tolist() == [[65504.0, -65504.0]]


def test_an_int8_row_by_hand():
    """Codes are steps of 5.1 / 255 = 0.02 above the smallest: 0, 50, 75 and 255 of them. The rest of the block repeats
    the last column; then come the step and the smallest value."""
    row = torch.tensor([[-1.0, 0.0, 0.5, 4.1]])
    coded = encode(row, "int8")
    assert coded[0, :32].tolist() == [0, 50, 75, 255] + 28 * [255]
    step, smallest = coded[0, 32:].view(torch.float32).tolist()
    assert smallest == -1.0 and step == pytest.approx(0.02, rel=1e-6)
    torch.testing.assert_close(decode(coded, 4, "int8"), row, rtol=0, atol=1e-6)
    # 0.51 lies between codes: it comes back as the nearer one.
    between = torch.tensor([[-1.0, 0.509, 0.511, 4.1]])
    torch.testing.assert_close(
        decode(encode(between, "int8"), 4, "int8")[0, 1:3], torch.tensor([0.50, 0.52]), rtol=0, atol=1e-6
    )
