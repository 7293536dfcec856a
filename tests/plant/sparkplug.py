"""sparkplug.py STATION [SECONDS]: the station as a Sparkplug B edge node, read by another implementation (pysparkplug) through a
real broker (mosquitto): birth, data by alias, sequence numbers, rebirth, a broker that is away (so long, else ten seconds),
death by will and in order; and pysparkplug as its primary host."""

import multiprocessing
import queue
import signal
import time

from pysparkplug import Client, DataType, Message, MessageType, Metric, NCmd, QoS, State, Topic, get_current_timestamp

from play import AWAY, FOLDER, PORT, broker, play, recorded, station, until


def edge_node(more=""):
    return station(f'[mqtt.sparkplug]\ngroup = "Plant"\nnode = "line1"\n{more}', "--rate", "4", "--delay-ms", "4000")


class Host:
    """Whoever listens to the group."""

    def __init__(self):
        self.came = queue.Queue()
        self.client = Client()
        self.client.subscribe(Topic(group_id="Plant", message_type="+", edge_node_id="line1"), QoS.AT_LEAST_ONCE,
                              lambda _, message: self.came.put(message))
        self.client.connect("127.0.0.1", port=PORT)
        self.names, self.seq = {}, None

    def next(self, patience=90):
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

    def until(self, what, fits, patience=120):
        start, all = time.monotonic(), []
        while time.monotonic() - start < patience:
            kind, values, metrics = self.next()
            all.append((kind, values, metrics))
            if fits(kind, values):
                return all
        raise AssertionError(f"{what} does not come")


def rebirth(client):
    metric = Metric(timestamp=get_current_timestamp(), name="Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True)
    client.publish(Message(topic=Topic(group_id="Plant", message_type=MessageType.NCMD, edge_node_id="line1"),
                           payload=NCmd(timestamp=get_current_timestamp(), metrics=(metric,)), qos=QoS.AT_MOST_ONCE,
                           retain=False), include_dtypes=True)


def state(online, timestamp):
    """What the primary host says of itself."""
    return Message(topic=Topic(message_type=MessageType.STATE, sparkplug_host_id="scada"),
                   payload=State(timestamp=timestamp, online=online), qos=QoS.AT_LEAST_ONCE, retain=True)


def primary_host(timestamp):
    """A primary host, in a process that can be killed: its will has the time of its birth."""
    client = Client()
    client.set_will(state(False, timestamp))
    client.connect("127.0.0.1", port=PORT, blocking=True, callback=lambda c: c.publish(state(True, timestamp)))


def primary():
    process = multiprocessing.Process(target=primary_host, args=(get_current_timestamp(),), daemon=True)
    process.start()
    return process


def silent(host, seconds):
    """Nothing comes, and the station judges on."""
    before = recorded()
    time.sleep(seconds)
    assert host.came.empty(), host.came.get()
    assert len(recorded()) > len(before) + seconds, (before, recorded())


def logged(text, times=1):
    until(f"{text!r} in the log {times} times", lambda: (FOLDER / "log").read_text().count(text) >= times)


def with_a_primary_host():
    host = Host()
    # The station goes on in the file of those before it.
    earlier = len(recorded())
    node = edge_node('primary_host = "scada"\n')
    logged("messages wait until primary host scada is online")
    rebirth(host.client)
    assert host.next()[0] == MessageType.NCMD
    # The first parts have reached the end of the belt.
    until("parts that are judged", lambda: len(recorded()) >= earlier + 8)
    silent(host, 5)
    waited = recorded()[earlier:]
    scada = primary()
    all = host.until("what waited", lambda k, v: (v.get("Result/Part") or 0) >= waited[-1])
    assert all[0][0] == MessageType.NBIRTH and [k for k, _, _ in all].count(MessageType.NBIRTH) == 1
    births = [all[0][1]["bdSeq"]]
    results = lambda: [(v["Result/Part"], metrics[0].is_historical) for k, v, metrics in all
                       if k == MessageType.NDATA and "Result/Part" in v and v["Result/Part"] >= waited[0]]
    late = [part for part, historical in results() if historical]
    # Those of the last second are none.
    assert len(late) >= 15 and set(waited[:-8]) <= set(late), (late, waited)
    print("ok: no birth without the primary host, rebirth or not;", len(late), "results waited for it, historical")

    # An old message of the host's comes late.
    host.client.publish(state(False, get_current_timestamp() - 3_600_000))
    mark = recorded()[-1] + 8
    all += host.until("results as before", lambda k, v: (v.get("Result/Part") or 0) >= mark)
    assert {k for k, _, _ in all[1:]} == {MessageType.NDATA}
    print("ok: an older STATE counts for nothing")

    for killed in (True, False):
        if killed:
            scada.kill()
            scada.join()
        else:
            host.client.publish(state(False, get_current_timestamp()))
        all += host.until("death", lambda k, v: k == MessageType.NDEATH)
        assert all[-1][1]["bdSeq"] == births[-1], (all[-1], births)
        logged("primary host scada is offline: disconnected", 1 if killed else 2)
        silent(host, 5)
        if not killed:
            scada.kill()
        mark = recorded()[-1]
        scada = primary()
        all += host.until("what waited", lambda k, v: (v.get("Result/Part") or 0) >= mark)
        births = [v["bdSeq"] for k, v, _ in all if k == MessageType.NBIRTH]
        assert births == list(range(births[0], births[0] + len(births))), births
    assert len(births) == 3, births
    sent = [part for part, _ in results()]
    assert sent == [p for p in recorded()[earlier:] if p <= sent[-1]], sent
    print("ok: a primary host that is killed, and one that says good-bye: death, silence, birth with the next bdSeq;",
          len(sent), "results, none missing, none twice")
    node.send_signal(signal.SIGTERM)
    node.wait(30)
    scada.kill()


def main():
    first = broker()
    host = Host()
    node = edge_node()
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

    rebirth(host.client)
    again = host.until("a birth", lambda k, v: k == MessageType.NBIRTH)[-1][1]
    assert again["bdSeq"] == born["bdSeq"] and again["State/Mode"] == "running" and again["Result/Part"] >= parts[-1]
    print("ok: rebirth with the last values")

    # The broker is away.
    first.kill()
    first.wait()
    time.sleep(AWAY)
    first = broker()
    host = Host()
    all = host.until("results of now", lambda k, v: k == MessageType.NBIRTH)
    assert all[-1][1]["bdSeq"] == born["bdSeq"] + 1 or all[-1][1]["bdSeq"] > born["bdSeq"], all[-1][1]["bdSeq"]
    mark = recorded()[-1]
    all = host.until("what waited", lambda k, v: v.get("Result/Part", 0) >= mark)
    waited = [v["Result/Part"] for _, v, metrics in all if "Result/Part" in v and metrics[0].is_historical]
    sent = [v["Result/Part"] for _, v, _ in all if "Result/Part" in v]
    assert len(waited) >= 20 and sent == [p for p in recorded() if sent[0] <= p <= sent[-1]], (waited, sent)
    print(f"ok: a broker that was away {AWAY:.0f} s:", len(waited), "results that waited are historical, in order")

    node.kill()
    node.wait()
    dead = host.until("the will", lambda k, v: k == MessageType.NDEATH)[-1][1]
    third = edge_node()
    back = host.until("a birth", lambda k, v: k == MessageType.NBIRTH)[-1][1]
    assert back["bdSeq"] == dead["bdSeq"] + 1, (back["bdSeq"], dead["bdSeq"])
    host.until("results", lambda k, v: "Result/Part" in v)
    third.send_signal(signal.SIGTERM)
    farewell = host.until("a farewell", lambda k, v: k == MessageType.NDEATH)[-1][1]
    assert farewell["bdSeq"] == back["bdSeq"]
    third.wait(30)
    print("ok: death by will and in order, with the birth's bdSeq; the next one's goes on after a power cut")
    with_a_primary_host()


play(main)
