"""Readers: each turns a file into a `Trace`, or raises an `InputError`. Shared options: `sliceoff.data.grid.Policy`."""

from sliceoff.data.readers.long import read_long_csv as read_long_csv
from sliceoff.data.readers.long import read_long_parquet as read_long_parquet
from sliceoff.data.readers.milan import read_milan as read_milan
from sliceoff.data.readers.npz import read_npz as read_npz
from sliceoff.data.readers.wide import read_wide_csv as read_wide_csv
from sliceoff.data.readers.wide import read_wide_parquet as read_wide_parquet
