"""outage.py STATION [SECONDS]: a broker (mosquitto) that is away for so long (ten seconds, if nothing is said), and a station that
sends to it by MQTT 5, QoS 1. Exit code 0: every result of every part has come, in order, none twice without a mark."""

import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from play import AWAY, FOLDER, PORT, broker, play, recorded, started, station, until

RATE = 5
# Seconds after which the broker has surely saved what was acknowledged; it does so each second.
SAVED = 3
# The broker keeps what a subscriber that is away is to get.
KEEPS = f"persistence true\nautosave_interval 1\npersistence_location {FOLDER}/\nmax_queued_messages 0\n"


class Subscriber:
    """Everything that comes, in order: topic and JSON."""

    def __init__(self):
        self.came = []
        command = ["mosquitto_sub", "-V", "mqttv5", "-h", "127.0.0.1", "-p", str(PORT), "-q", "1", "-F", "%t %p",
                   "-t", "plant/line1/#", "-i", "reader", "-c", "-x", "86400"]
        child = started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self.read, args=(child.stdout,), daemon=True).start()

    def read(self, lines):
        for line in lines:
            topic, body = line.split(" ", 1)
            self.came.append((topic.removeprefix("plant/line1/"), json.loads(body)))

    def of(self, topic):
        return [body for t, body in list(self.came) if t == topic]


def megabytes(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(next(l for l in status.split("\n") if l.startswith("VmRSS:")).split()[1]) / 1024


def on_disk():
    return sum(os.path.getsize(p) for p in (FOLDER / "state").glob("mqtt.db*")) / 1e6


def check(bodies, given_again=()):
    """Numbers from the first to the last, each once unless it says that it is repeated; how many were repeated. A broker that was
    killed gives its subscribers again, unmarked, what they had acknowledged since it last saved that."""
    seen, repeated = {}, 0
    for body in bodies:
        if body["seq"] in seen:
            assert body.get("repeated") is True or body["seq"] in given_again, f"{body['seq']} twice, unmarked"
            repeated += 1
        else:
            assert body["seq"] == len(seen) + 1, f"{body['seq']} comes after {len(seen)}"
        seen[body["seq"]] = body
    return seen, repeated


def main():
    first = broker(KEEPS)
    subscriber = Subscriber()
    sender = station('topic = "plant/line1"\n', "--rate", str(RATE))
    until("results", lambda: len(subscriber.of("result")) > 20)
    before = megabytes(sender)
    first.kill()
    first.wait()
    last = subscriber.of("result")[-1]["seq"]
    gone = recorded()[-1]
    time.sleep(AWAY)
    after, waiting = megabytes(sender), on_disk()
    broker(KEEPS)
    back = recorded()[-1]
    reached = until("what waited", lambda: any(r["part"] >= back for r in subscriber.of("result")), 180)
    # And as before.
    mark = recorded()[-1] + 3 * RATE
    until("results as before", lambda: any(r["part"] >= mark for r in subscriber.of("result")))
    sender.send_signal(signal.SIGTERM)
    sender.wait(30)
    until("a farewell", lambda: subscriber.of("state")[-1]["online"] is False)
    seen, repeated = check(subscriber.of("result"), range(last - SAVED * RATE, last + 1))
    parts = [seen[number]["part"] for number in sorted(seen)]
    # The last half second goes with the station.
    assert parts == recorded()[:len(parts)] and len(parts) > len(recorded()) - 5 * RATE, (len(parts), len(recorded()))
    alarms, _ = check(subscriber.of("alarm"))
    dropped = subscriber.of("counters")[-1]["messages"]["dropped"]
    assert dropped == 0, dropped
    print(f"ok: a broker that was away {AWAY:.0f} s: {len(parts)} results of {len(recorded())} parts, {back - gone} of them meanwhile; "
          f"none lost, none twice without a mark ({repeated} repeated), {len(alarms)} alarms; what waited had come {reached:.1f} s "
          f"after the broker; {waiting:.1f} MB on disk; memory {before:.0f} to {after:.0f} MB")


play(main)
