"""Train several times as one of several processes, in the environment that torchrun gives it."""

import json
import os
import socket
from pathlib import Path

from commands import call, forked


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def train_as_rank(rank: int, count: int, port: int, runs: list[list[str]], folder: Path) -> None:
    """Do ``runs``, lists of arguments of napari-hidiff-train, and write exit statuses, stdout and
    stderr of all, as JSON, to rank-RANK.json in ``folder``."""
    os.environ |= {
        **{name: str(rank) for name in ("RANK", "LOCAL_RANK")},
        **{name: str(count) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    from napari_hidiff.training import cli

    done = [call(cli.main, *arguments) for arguments in runs]
    said = {"statuses": [run.returncode for run in done]}
    said |= {name: "".join(getattr(run, name) for run in done) for name in ("stdout", "stderr")}
    (folder / f"rank-{rank}.json").write_text(json.dumps(said), encoding="utf-8")


def train_on(count: int, runs: list[list[str]], folder: Path) -> list[dict]:
    """What each of ``count`` processes that train together wrote."""
    port = free_port()
    started = [forked(train_as_rank, rank, count, port, runs, folder) for rank in range(count)]
    for process in started:
        process.join(1800)
        assert process.exitcode == 0
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(count)]
