"""Records of a file by number, at the speed of the system calls: compiled loops around pread and pwrite.

Each function works on rising row numbers, and joins neighbours in the file into one request. The GIL is released, so
threads that each take a part keep several requests under way.
"""

import numba
import numpy as np
from numba.core import types

_pread = types.ExternalFunction("pread", types.int64(types.int32, types.uintp, types.uint64, types.int64))
_pwrite = types.ExternalFunction("pwrite", types.int64(types.int32, types.uintp, types.uint64, types.int64))


@numba.njit(cache=True, nogil=True)
def read_rows(descriptor, rows, records):
    """Read record rows[k] of the open file into records[k] (uint8 [n, record bytes]); returns how many it could."""
    done = 0
    while done < len(rows):
        end = _run_end(rows, done)
        address, size = np.uintp(records[done:].ctypes.data), np.uint64((end - done) * records.shape[1])
        if _pread(descriptor, address, size, rows[done] * records.shape[1]) != np.int64(size):
            break
        done = end
    return done


@numba.njit(cache=True, nogil=True)
def write_rows(descriptor, rows, records):
    """Write records[k] as record rows[k] of the open file; returns how many it could."""
    done = 0
    while done < len(rows):
        end = _run_end(rows, done)
        address, size = np.uintp(records[done:].ctypes.data), np.uint64((end - done) * records.shape[1])
        if _pwrite(descriptor, address, size, rows[done] * records.shape[1]) != np.int64(size):
            break
        done = end
    return done


@numba.njit(cache=True, nogil=True)
def _run_end(rows, start):
    """End of the run of consecutive numbers that begins at `start`."""
    end = start + 1
    while end < len(rows) and rows[end] == rows[end - 1] + 1:
        end += 1
    return end
