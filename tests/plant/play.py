"""What the checks beside this share: a real broker (mosquitto) on a free port, a station that sends to it, an end of both."""

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

STATION, AWAY = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
FOLDER = pathlib.Path(tempfile.mkdtemp())
CHILDREN = []

with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    PORT = s.getsockname()[1]


def started(command, **more):
    child = subprocess.Popen(command, **more)
    CHILDREN.append(child)
    return child


def until(what, done, patience=90):
    """The seconds until something is as it should be."""
    start = time.monotonic()
    while True:
        try:
            if done():
                return time.monotonic() - start
        except OSError:
            pass
        assert time.monotonic() - start < patience, f"{what}: not within {patience} s"
        time.sleep(0.1)


def broker(more=""):
    (FOLDER / "mosquitto.conf").write_text(f"user root\nlistener {PORT} 127.0.0.1\nallow_anonymous true\n{more}")
    child = started(["mosquitto", "-c", FOLDER / "mosquitto.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until("the broker", lambda: socket.create_connection(("127.0.0.1", PORT), 1).close() is None)
    return child


def station(mqtt, *more):
    """A simulated line whose file of the plant says so."""
    (FOLDER / "plant.toml").write_text(f'[mqtt]\nbroker = "mqtt://127.0.0.1:{PORT}"\ncounters_s = 1\n{mqtt}')
    return started([STATION, "run", "--board", "sim", "--source", "pattern", "--quiet", "--frames", "1000000", *more,
                    "--out", FOLDER / "out", "--state", FOLDER / "state", "--plant", FOLDER / "plant.toml"],
                   stdout=subprocess.DEVNULL, stderr=open(FOLDER / "log", "ab"))


def recorded():
    """The parts that the station has written down, in order."""
    path = FOLDER / "out/verdicts.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["part"] for line in lines if line.endswith("\n")]


def play(main):
    """Runs a check; if it fails, with the station's last words. Nothing goes on behind it."""
    try:
        main()
    except BaseException:
        if (FOLDER / "log").exists():
            print("\n".join((FOLDER / "log").read_text().splitlines()[-15:]), file=sys.stderr)
        raise
    finally:
        for child in CHILDREN:
            child.kill()
