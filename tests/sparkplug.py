"""sparkplug.py STATION: the station as a Sparkplug B edge node, read by another implementation (pysparkplug) through a real
broker (mosquitto): birth, data by alias, sequence numbers, rebirth, a broker that is away, death by will and in order."""

import json
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pysparkplug import Client, DataType, MessageType, Metric, NCmd, Message, QoS, Topic, get_current_timestamp

STATION = sys.argv[1]
FOLDER = Path(tempfile.mkdtemp())
CHILDREN = []


def started(command, **more):
    child = subprocess.Popen(command, **more)
    CHILDREN.append(child)
    return child


with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    PORT = s.getsockname()[1]


def broker():
    (FOLDER / "mosquitto.conf").write_text(f"user root\nlistener {PORT} 127.0.0.1\nallow_anonymous true\n")
    child = started(["mosquitto", "-c", FOLDER / "mosquitto.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", PORT), 1).close()
            return child
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the broker does not start")


def station():
    (FOLDER / "plant.toml").write_text(
        f'[mqtt]\nbroker = "mqtt://127.0.0.1:{PORT}"\ncounters_s = 1\n[mqtt.sparkplug]\ngroup = "Plant"\nnode = "line1"\n')
    return started([STATION, "run", "--board", "sim", "--source", "pattern", "--rate", "4", "--delay-ms", "4000", "--quiet",
                    "--frames", "1000000", "--out", FOLDER / "out", "--state", FOLDER / "state",
                    "--plant", FOLDER / "plant.toml"],
                   stdout=subprocess.DEVNULL, stderr=open(FOLDER / "log", "ab"))


def recorded():
    lines = (FOLDER / "out/verdicts.jsonl").read_text().splitlines()
    return [json.loads(line)["part"] for line in lines if line.endswith("}")]


class Host:
    """Whoever listens to the group."""

    def __init__(self):
        self.came = queue.Queue()
        self.client = Client()
        self.client.subscribe(Topic(group_id="Plant", message_type="+", edge_node_id="line1"), QoS.AT_LEAST_ONCE,
                              lambda _, message: self.came.put(message))
        self.client.connect("127.0.0.1", port=PORT)
        self.names, self.seq = {}, None

    def next(self, patience=30):
        """Kind, values by name, all metrics; every number is looked at."""
        try:
            message = self.came.get(timeout=patience)
        except queue.Empty:
            raise AssertionError(f"nothing comes within {patience} s") from None
        kind, payload = message.topic.message_type, message.payload
        assert not message.retain, kind
        if kind == MessageType.NBIRTH:
            self.names = {m.alias: m.name for m in payload.metrics if m.alias is not None}
            assert payload.seq == 0 and len(self.names) == len(payload.metrics) - 2
        if kind == MessageType.NDATA:
            assert payload.seq == (self.seq + 1) % 256, f"{self.seq} {payload.seq}: a message is missing"
        if kind in (MessageType.NBIRTH, MessageType.NDATA):
            self.seq = payload.seq
        metrics = (payload.bd_seq_metric,) if kind == MessageType.NDEATH else payload.metrics
        values = {m.name or self.names[m.alias]: m.value for m in metrics}
        return kind, values, metrics

    def until(self, what, fits, patience=60):
        start, all = time.monotonic(), []
        while time.monotonic() - start < patience:
            kind, values, metrics = self.next()
            all.append((kind, values, metrics))
            if fits(kind, values):
                return all
        raise AssertionError(f"{what} does not come")


def main():
    first = broker()
    host = Host()
    node = station()
    kind, born, _ = host.next()
    assert kind == MessageType.NBIRTH, kind
    assert born["Node Control/Rebirth"] is False and "Counters/rejects" in born and sum(n.startswith("Alarms/") for n in born) == 20
    all = host.until("results and counters", lambda k, v: v.get("Result/Part", 0) > 20)
    merged = {}
    for _, values, _ in all:
        merged |= values
    assert merged["State/Mode"] == "running" and 0 <= merged["State/Threshold"] <= 1 and merged["Counters/parts"] > 5, merged
    assert merged["Result/Outcome"] in ("good", "reject") and merged["Result/Camera"] == 1
    parts = [v["Result/Part"] for _, v, _ in all if "Result/Part" in v]
    assert parts == list(range(parts[0], parts[-1] + 1)), parts
    historical = [m for _, _, metrics in all for m in metrics if m.is_historical]
    print("ok: birth, state, counters,", len(parts), "results, none missing, none twice;", len(historical), "historical metrics")

    command = Message(topic=Topic(group_id="Plant", message_type=MessageType.NCMD, edge_node_id="line1"),
                      payload=NCmd(timestamp=get_current_timestamp(),
                                   metrics=(Metric(timestamp=get_current_timestamp(), name="Node Control/Rebirth",
                                                   datatype=DataType.BOOLEAN, value=True),)),
                      qos=QoS.AT_MOST_ONCE, retain=False)
    host.client.publish(command, include_dtypes=True)
    again = host.until("a birth", lambda k, v: k == MessageType.NBIRTH)[-1][1]
    assert again["bdSeq"] == born["bdSeq"] and again["State/Mode"] == "running" and again["Result/Part"] >= parts[-1]
    print("ok: rebirth with the last values")

    # The broker is away for ten seconds.
    first.kill()
    first.wait()
    time.sleep(10)
    first = broker()
    host = Host()
    all = host.until("results of now", lambda k, v: k == MessageType.NBIRTH)
    assert all[-1][1]["bdSeq"] == born["bdSeq"] + 1 or all[-1][1]["bdSeq"] > born["bdSeq"], all[-1][1]["bdSeq"]
    mark = recorded()[-1]
    all = host.until("what waited", lambda k, v: v.get("Result/Part", 0) >= mark)
    waited = [v["Result/Part"] for _, v, metrics in all if "Result/Part" in v and metrics[0].is_historical]
    sent = [v["Result/Part"] for _, v, _ in all if "Result/Part" in v]
    assert len(waited) >= 20 and sent == [p for p in recorded() if sent[0] <= p <= sent[-1]], (waited, sent)
    print("ok: a broker that was away 10 s:", len(waited), "results that waited are historical, in order")

    node.kill()
    node.wait()
    dead = host.until("the will", lambda k, v: k == MessageType.NDEATH)[-1][1]
    third = station()
    back = host.until("a birth", lambda k, v: k == MessageType.NBIRTH)[-1][1]
    assert back["bdSeq"] == dead["bdSeq"] + 1, (back["bdSeq"], dead["bdSeq"])
    host.until("results", lambda k, v: "Result/Part" in v)
    third.send_signal(signal.SIGTERM)
    farewell = host.until("a farewell", lambda k, v: k == MessageType.NDEATH)[-1][1]
    assert farewell["bdSeq"] == back["bdSeq"]
    third.wait(30)
    print("ok: death by will and in order, with the birth's bdSeq; the next one's goes on after a power cut")


try:
    main()
except BaseException:
    if (FOLDER / "log").exists():
        print("\n".join((FOLDER / "log").read_text().splitlines()[-15:]), file=sys.stderr)
    raise
finally:
    for child in CHILDREN:
        child.kill()
