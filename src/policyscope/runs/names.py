"""The names of our own files in a run directory: only these are ever replaced, removed, carried."""

from __future__ import annotations

import re

MARKER = ".policyscope"
LOCK = ".policyscope.lock"

OWN = {
    "": r"(run|eval_info|bench|sweep)\.json|run\.log|(predictions|by_episode|clips|steps)\.parquet"
    r"|sums\.safetensors|live\.rrd|(report|bench)(\.zh)?\.(png|svg|pdf)|report(\.zh)?\.html|sweep\.html|\.policyscope",
    "parts": r"(episode|calls|rows)-\d{6,}\.(parquet|npz)|(plan|batch_size)\.json",
    "frames": r"\d{6,}\.png",
    "videos": r"\d{6,}\.mp4",
}
HALF = {
    folder: re.compile(rf"\.({names})(\.[0-9a-f]{{12}})?\.tmp(\.\w+)?|\.\d{{6,}}\.tmp\.mp4")
    for folder, names in OWN.items()
}
"""What a killed run leaves of a file that it was writing."""
KNOWN = {folder: re.compile(rf"{names}|{HALF[folder].pattern}") for folder, names in OWN.items()}
INSIDE = tuple(filter(None, OWN))
RUNS = ("runs", "rollouts")
"""Of a sweep: directories of their own, which nothing here removes."""
_IN_A_SWEEP = re.compile(rf"({'|'.join(RUNS)})/[^/.][^/]*/")


def is_whole(name: str) -> bool:
    """Whether a path is that of a whole file of ours in a run, or in a run of a sweep."""
    begin = _IN_A_SWEEP.match(name)
    folder, _, file = name[begin.end() if begin else 0 :].rpartition("/")
    return folder in OWN and re.fullmatch(OWN[folder], file) is not None
