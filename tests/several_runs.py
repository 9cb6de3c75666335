"""Train several times in the processes that torchrun started: several_runs.py RUNS.json.

RUNS.json is a list of lists of arguments of napari-hidiff-train.
"""

import json
import sys
from pathlib import Path

from napari_hidiff.training.cli import main

for arguments in json.loads(Path(sys.argv[1]).read_text()):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as left:
        print("status", left.code, flush=True)
