"""Sets a threshold and reads results over the command set, with pyserial.

Usage: example.py PORT THRESHOLD PARTS
"""

import csv
import sys

import serial


class Refused(Exception):
    pass


class Station:
    def __init__(self, port, baud=115200):
        self.port = serial.Serial(port, baud, timeout=3)
        self.number = 0
        self.results = []
        self.port.write(b"\x1b")  # drops half a line that somebody else left there

    def line(self):
        line = self.port.readline()
        if not line.endswith(b"\n"):
            raise TimeoutError("the station is silent")
        return line.decode("ascii").strip()

    def ask(self, command):
        """Values of the answer. Lines of RESULT may come before it; the number tells it apart."""
        self.number = self.number % 65535 + 1
        self.port.write(f"#{self.number} {command}\r".encode("ascii"))
        while True:
            line = self.line()
            if line.startswith("RESULT,"):
                self.results.append(line)
                continue
            number, _, answer = line.partition(" ")
            if number != f"#{self.number}":
                continue
            outcome, _, *values = next(csv.reader([answer]))  # a text with a comma is quoted
            if outcome != "OK":
                raise Refused(answer)
            return values

    def result(self):
        """The next part: number, outcome, cause, score, latency in ms."""
        while not self.results:
            line = self.line()
            if line.startswith("RESULT,"):
                self.results.append(line)
        return self.results.pop(0).split(",")[1:]


def main():
    port, threshold, parts = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    station = Station(port)
    print("station:", *station.ask("IDN"))
    try:
        station.ask(f"SET threshold {threshold:.4f}")
        station.ask("COMMIT")
    except Refused:
        station.ask("REVERT")
        raise
    print("threshold:", station.ask("GET threshold")[1])
    station.ask("RESULT ON")
    for _ in range(parts):
        part, outcome, cause, score, latency = station.result()
        print(f"part {part}: {outcome} ({cause}), score {score}, {latency} ms")
    station.ask("RESULT OFF")


main()
