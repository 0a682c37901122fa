"""Reads the event files of a run back with the package tensorboard and compares every number with the run's metrics.jsonl.

    .venv/bin/pip install tensorboard==2.21.0
    .venv/bin/python tensorboard_events.py RUN

Ends with 1 where a step, a name or a value differs. Values are single precision in event files.
"""

import json
import os
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def single(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def main(run):
    expected = {}
    with open(os.path.join(run, "metrics.jsonl")) as lines:
        for line in lines:
            record = json.loads(line)
            if record["kind"] in ("step", "eval"):
                for name, value in record.items():
                    if name not in ("kind", "step", "time", "tokens"):
                        expected[name, record["step"]] = single(value)
    events = EventAccumulator(os.path.join(run, "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    found = {}
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            found[name, event.step] = event.value
    wrong = [key for key in expected if found.get(key) != expected[key]]
    unknown = [key for key in found if key not in expected]
    for key in wrong[:5]:
        print(f"{key}: the events have {found.get(key)}, the metrics {expected[key]}")
    for key in unknown[:5]:
        print(f"{key}: the events have it, the metrics do not")
    names = sorted({name for name, _ in found})
    print(f"{len(found)} values under {', '.join(names)}; {len(wrong)} wrong, {len(unknown)} unknown")
    return 1 if wrong or unknown or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
