"""Train several times in the processes that torchrun started: several_runs.py RUNS.json.

RUNS.json is a list of lists of arguments of napari-hidiff-train. Beside it every process writes
the exit statuses of its runs, as JSON, to status-RANK.json.
"""

import json
import os
import sys
from pathlib import Path

from napari_hidiff.training.cli import main

listed = Path(sys.argv[1])
statuses = []
for arguments in json.loads(listed.read_text()):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as left:
        statuses.append(left.code)
listed.with_name(f"status-{os.environ['RANK']}.json").write_text(json.dumps(statuses))
