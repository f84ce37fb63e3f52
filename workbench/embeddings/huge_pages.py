"""Ask the kernel for huge pages under a table: random rows of large tables otherwise wait for address translation."""

import ctypes
import mmap

from torch import Tensor

_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25  # Linux; the second, which moves what has been touched, since 6.1
_LEAST_BYTES = 8 << 20


def use_huge_pages(tensor: Tensor) -> None:
    """Have the memory of a large tensor on a CPU in huge pages, where the kernel allows it; no effect on any value."""
    size_bytes = tensor.numel() * tensor.element_size()
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if tensor.device.type != "cpu" or size_bytes < _LEAST_BYTES or madvise is None:
        return
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (tensor.data_ptr() + size_bytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    for advice in (_MADV_HUGEPAGE, _MADV_COLLAPSE):  # a refusal changes nothing
        madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)
