"""Whether the line feels the page and the plant: verdicts' latencies with and without 20 who look on, 200 requests a second and a
broker that takes connections and never answers.

load.py PROGRAM [PAIRS]: the device program; how many pairs of ten quiet and ten loaded seconds are compared (default 12). Those who
look on are HTTP clients that ask for what a browser with the page asks for: events, and the live picture twice a second.
Exit code 0: every request was answered, memory did not grow, and verdicts are not later by more than 1 % beyond doubt (two
standard errors of the pairs' differences). Where other work is done on the machine, `nice -n -15 load.py ...` has
the station before it.
"""

import http.client
import json
import multiprocessing
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

BROWSERS, REQUESTS, ASKERS = 20, 200, 8
PERIOD, SETTLE = 10.0, 3.0
PATHS = ["/api/state", "/api/results", "/metrics", "/", "/app.js", "/api/recipes", "/live.jpg"]
LIMIT = 1.0       # percent by which verdicts may be later
GROWTH = 32       # MiB by which the program may grow while it is under load


def clients(port, on, counts, latest, processor):
    """A process with all clients; they pause while `on` is not set."""
    os.sched_setaffinity(0, {processor})
    os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))
    lock = threading.Lock()

    def count(place, n=1):
        with lock:
            counts[place] += n

    def get(connection, path):
        """Bytes of an answer, over a connection that stays open."""
        begun = time.monotonic()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status not in (200, 204):
            raise OSError(f"{path}: {answer.status}")
        took = time.monotonic() - begun
        with lock:
            latest.value = max(latest.value, took)
        return len(body)

    def every(seconds, what, path):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        due = time.monotonic()
        while True:
            if not on.is_set():
                on.wait()
                due = time.monotonic()
            try:
                get(connection, path())
                count(what)
            except (OSError, http.client.HTTPException) as e:
                print(f"FAIL {e}", flush=True)
                count(3)
                connection.close()
            due += seconds
            time.sleep(max(0, due - time.monotonic()))

    def looks_on():
        while True:
            on.wait()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/api/events")
            events = connection.getresponse()
            while on.is_set():
                if events.readline().startswith(b"event: state"):
                    count(0)
            connection.close()

    asked = iter(range(1 << 60))
    for _ in range(BROWSERS):
        threading.Thread(target=looks_on, daemon=True).start()
        threading.Thread(target=every, args=(0.5, 1, lambda: "/live.jpg"), daemon=True).start()
    for _ in range(ASKERS):
        path = lambda: PATHS[next(asked) % len(PATHS)]
        threading.Thread(target=every, args=(ASKERS / REQUESTS, 2, path), daemon=True).start()
    threading.Event().wait()


def broker():
    """Takes connections and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    held = []

    def hang():
        while True:
            held.append(listener.accept())

    threading.Thread(target=hang, daemon=True).start()
    return listener.getsockname()[1], held


def memory(process):
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(next(l for l in status.split("\n") if l.startswith("VmRSS:")).split()[1]) / 1024


def processor_time(process):
    """Seconds of processor, and seconds of waiting for one, by threads' names."""
    times = {}
    for task in pathlib.Path(f"/proc/{process.pid}/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            ran, waited = (int(ns) / 1e9 for ns in (task / "schedstat").read_text().split()[:2])
        except OSError:
            continue
        before = times.get(name, (0, 0))
        times[name] = (before[0] + ran, before[1] + waited)
    return times


def percentile(values, percent):
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def main(program, pairs):
    folder = pathlib.Path(tempfile.mkdtemp())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hanging, held = broker()
    plant = folder / "plant.toml"
    plant.write_text(f'[mqtt]\nbroker = "mqtt://127.0.0.1:{hanging}"\ntopic = "plant/line1"\n')
    command = [program, "run", "--board", "sim", "--source", "pattern", "--rate", "5", "--frames", "1000000", "--quiet",
               "--delay-ms", "2100", "--web", f"127.0.0.1:{port}", "--plant", plant, "--out", folder / "out",
               "--state", folder / "state"]
    # The clients, which are other computers in a plant, have a processor for themselves if there are several.
    processors = sorted(os.sched_getaffinity(0))
    own = set(processors[:-1]) or set(processors)
    apart = lambda: os.sched_setaffinity(0, own)
    station = subprocess.Popen(command, preexec_fn=apart, stdout=subprocess.DEVNULL, stderr=open(folder / "log", "w"))
    on, counts = multiprocessing.Event(), multiprocessing.Array("Q", 4)
    latest = multiprocessing.Value("d", 0.0)
    load = multiprocessing.Process(target=clients, args=(port, on, counts, latest, processors[-1]), daemon=True)
    try:
        verdicts = folder / "out" / "verdicts.jsonl"
        for _ in range(600):
            if verdicts.exists() and verdicts.read_text().count("\n") > 20:
                break
            time.sleep(0.1)
        else:
            raise SystemExit(f"the station does not start: {(folder / 'log').read_text()}")
        load.start()
        lines = open(verdicts)

        def judged():
            """Latencies of the parts that were judged since the last call, and how many parts had no verdict."""
            parts = [json.loads(line) for line in lines.read().splitlines()]
            with_one = [p["latency_ms"] for p in parts if p.get("latency_ms") is not None]
            return with_one, len(parts) - len(with_one)

        def period(loaded):
            (on.set if loaded else on.clear)()
            # What is still on its way belongs to neither: a part has its line once it has passed the ejector.
            time.sleep(SETTLE)
            judged()
            used = processor_time(station)
            time.sleep(PERIOD)
            for name, now in processor_time(station).items():
                then, sum_ = used.get(name, (0, 0)), threads[loaded].get(name, (0, 0))
                threads[loaded][name] = tuple(s + n - t for s, n, t in zip(sum_, now, then))
            return judged()

        before = memory(station)
        quiet, busy, without, sizes, threads = [], [], [0, 0], [], [{}, {}]
        for pair in range(pairs):
            # Which is first changes, so that what grows in time is in both.
            for loaded in [(False, True), (True, False)][pair % 2]:
                latencies, none = period(loaded)
                (busy if loaded else quiet).append(latencies)
                without[loaded] += none
                sizes.append(memory(station))
        on.clear()
        time.sleep(2)
        after = memory(station)
        seen = list(counts)
    finally:
        load.kill()
        station.send_signal(signal.SIGTERM)
        code = station.wait(60)
    under_load = pairs * (PERIOD + SETTLE)
    events, pictures, requests, failures = seen
    print(f"station's exit code {code}; {BROWSERS} look on: {events / under_load:.0f} states and {pictures / under_load:.0f} pictures a second")
    print(f"{requests / under_load:.0f} other requests a second, slowest answer {1000 * latest.value:.0f} ms, {failures} failed; "
          f"the broker that hangs was called {len(held)} times")
    for name, periods, none in [("without load", quiet, without[0]), ("with load", busy, without[1])]:
        every = [latency for period in periods for latency in period]
        print(f"{name:13} {len(every)} verdicts, latency mean {statistics.mean(every):.2f} ms, median {statistics.median(every):.2f} ms, "
              f"99 % {percentile(every, 99):.2f} ms; {none} parts without a verdict")
    slower = [100 * (statistics.mean(b) / statistics.mean(q) - 1) for q, b in zip(quiet, busy) if q and b]
    doubt = 2 * statistics.stdev(slower) / len(slower) ** 0.5 if len(slower) > 1 else float("inf")
    middle = 100 * (statistics.median(sum(busy, [])) / statistics.median(sum(quiet, [])) - 1)
    print(f"slower by {statistics.mean(slower):+.2f} % +- {doubt:.2f} % (mean of pairs, two standard errors), median {middle:+.2f} %")
    for name in ["inference", "recorder", "web", "plant", "mqtt"]:
        ran, waited = ([100 * threads[loaded].get(name, (0, 0))[i] / pairs / PERIOD for loaded in (False, True)] for i in (0, 1))
        print(f"thread {name:9} runs {ran[0]:5.2f} % of the time without load, {ran[1]:5.2f} % with it; "
              f"waits for a processor {waited[0]:5.2f} % and {waited[1]:5.2f} %")
    ran, waited = zip(*(threads[loaded]["inference"] for loaded in (False, True)))
    kept = 100 * ((ran[1] + waited[1]) / len(sum(busy, [])) / ((ran[0] + waited[0]) / len(sum(quiet, []))) - 1)
    print(f"inference runs and waits {kept:+.2f} % longer per part")
    print(f"memory {before:.1f} MiB before, at most {max(sizes):.1f} MiB, {after:.1f} MiB after")
    wrong = []
    if failures or requests < 0.9 * REQUESTS * under_load or events < BROWSERS * under_load:
        wrong.append("clients were not answered as they should be")
    if not held:
        wrong.append("the broker was never called")
    if statistics.mean(slower) - doubt > LIMIT:
        wrong.append(f"verdicts are later by more than {LIMIT} %")
    if max(sizes) - before > GROWTH:
        wrong.append(f"the program grew by more than {GROWTH} MiB")
    if without[1] > without[0]:
        wrong.append("parts were not judged under load")
    if code not in (0, 1):
        wrong.append("the station did not end in order")
    for what in wrong:
        print(f"FAIL {what}")
    shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 12))
