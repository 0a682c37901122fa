"""Parquet files as pyarrow writes them: crates/data/tests/parquet/{snappy,zstd,gzip}.parquet, 200 rows with a number and a text.

    .venv/bin/pip install pyarrow==26.0.1
    .venv/bin/python parquet.py
"""

import os

import pyarrow
import pyarrow.parquet

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDER = os.path.join(ROOT, "crates", "data", "tests", "parquet")

os.makedirs(FOLDER, exist_ok=True)
rows = pyarrow.table(
    {"id": list(range(200)), "text": [f"row {row} über {'word ' * (row % 7)}" for row in range(200)]}
)
for codec in ["snappy", "zstd", "gzip"]:
    pyarrow.parquet.write_table(rows, os.path.join(FOLDER, f"{codec}.parquet"), compression=codec, row_group_size=64)
