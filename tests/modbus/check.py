"""pymodbus and mbpoll against a station: everything that MODBUS.md lists is read and written, nothing
else is there. Usage: check.py PORT MODBUS.md, where PORT is a serial port or tcp:HOST:PORT"""

import re
import subprocess
import sys

from pymodbus import FramerType
from pymodbus.client import ModbusSerialClient, ModbusTcpClient

PORT, DOCUMENT = sys.argv[1:]
TCP = PORT.removeprefix("tcp:").rsplit(":", 1) if PORT.startswith("tcp:") else None
# Pseudo-terminals know no parity.
LINE = {"baudrate": 19200, "parity": "N", "stopbits": 2}


def listed(title):
    """Rows of the table in this chapter: first address, how many, the cells."""
    chapter = re.search(rf"^## {title}$(.*?)(^## |\Z)", open(DOCUMENT).read(), re.M | re.S)[1]
    rows = []
    for line in chapter.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if span := re.fullmatch(r"(\d+)(?:\.\.(\d+))?", cells[0]):
            first = int(span[1])
            rows.append((first, int(span[2] or first) - first + 1, cells))
    assert rows, title
    return rows


COILS, DISCRETES = listed("Coils"), listed("Discrete inputs")
INPUTS, HOLDING = listed("Input registers"), listed("Holding registers")
COIL = {cells[1].strip("`"): first for first, _, cells in COILS}


def words(number, count):
    return [number >> 16 * place & 0xFFFF for place in reversed(range(count))]


def number(registers):
    total = 0
    for word in registers:
        total = total << 16 | word
    return total


def legal(values):
    """The ends of a range, or every number of a choice; and a number beyond."""
    if bits := re.fullmatch(r"bits of (\d+)", values):
        mask = int(bits[1])
        return [0, mask], mask + 1
    if span := re.fullmatch(r"(?:0=\w+ or )?(\d+)\.\.(\d+)", values):
        return [int(span[1]), int(span[2])], int(span[2]) + 1
    choices = [int(choice.split()[0]) for choice in values.split(",")]
    return choices, len(choices)


class Pymodbus:
    """Both clients have the same four calls; a refusal is an exception's number."""

    name = "pymodbus"

    def __init__(self):
        if TCP:
            self.client = ModbusTcpClient(TCP[0], port=int(TCP[1]), timeout=30, retries=0)
        else:
            self.client = ModbusSerialClient(PORT, framer=FramerType.RTU, timeout=30, retries=0, **LINE)
        assert self.client.connect()

    def read(self, table, first, count=1):
        call = {
            "coil": self.client.read_coils,
            "discrete": self.client.read_discrete_inputs,
            "holding": self.client.read_holding_registers,
            "input": self.client.read_input_registers,
        }[table]
        answer = call(first, count=count, device_id=1)
        if answer.isError():
            return answer.exception_code
        if table in ("coil", "discrete"):
            return [int(bit) for bit in answer.bits[:count]]
        return answer.registers

    def write(self, table, first, values):
        if table == "coil" and len(values) == 1:
            answer = self.client.write_coil(first, bool(values[0]), device_id=1)
        elif table == "coil":
            answer = self.client.write_coils(first, [bool(v) for v in values], device_id=1)
        elif len(values) == 1:
            answer = self.client.write_register(first, values[0], device_id=1)
        else:
            answer = self.client.write_registers(first, values, device_id=1)
        return answer.exception_code if answer.isError() else None

    def close(self):
        self.client.close()


class Mbpoll:
    """libmodbus' command line, a process for each request."""

    name = "mbpoll"
    TABLES = {"coil": "0", "discrete": "1", "input": "3", "holding": "4"}
    REASONS = {"Illegal function": 1, "Illegal data address": 2, "Illegal data value": 3, "device or server is busy": 6}

    def run(self, table, first, count, values=()):
        line = ["mbpoll", "-m", "rtu", "-a", "1", "-b", "19200", "-P", "none", "-s", "2", "-o", "10", "-0", "-1"]
        line += ["-t", self.TABLES[table], "-r", str(first)]
        line += ["-c", str(count)] if not values else []
        done = subprocess.run([*line, PORT, *map(str, values)], capture_output=True, text=True)
        said = done.stdout + done.stderr
        for reason, exception in self.REASONS.items():
            if reason in said:
                return exception, said
        assert done.returncode == 0, said
        return None, said

    def read(self, table, first, count=1):
        exception, said = self.run(table, first, count)
        if exception:
            return exception
        found = re.findall(r"^\[(\d+)\]:\s+(\d+)", said, re.M)
        assert [int(address) for address, _ in found] == list(range(first, first + count)), said
        return [int(value) for _, value in found]

    def write(self, table, first, values):
        return self.run(table, first, len(values), values)[0]

    def close(self):
        pass


def check(client):
    requests = 0

    def is_(wanted, got, what):
        nonlocal requests
        requests += 1
        assert wanted == got, f"{client.name}: {what}: {got}, not {wanted}"

    # Everything that is listed is there, one by one and as a block.
    seen = {}
    for table, rows in (("coil", COILS), ("discrete", DISCRETES), ("input", INPUTS), ("holding", HOLDING)):
        for first, count, cells in rows:
            values = client.read(table, first, count)
            is_(list, type(values), cells)
            seen[table] = seen.get(table, {}) | dict(zip(range(first, first + count), values))
        for first, count in blocks(seen[table]):
            wanted = [seen[table][address] for address in range(first, first + count)]
            is_(wanted, client.read(table, first, count), f"{table} {first}+{count}")
            if first + count not in seen[table]:
                is_(2, client.read(table, first + count), f"{table} {first + count} is not listed")
    # Every parameter is at its default and takes the ends of its range, of a choice each; nothing beyond.
    for first, count, cells in HOLDING:
        table, (inside, beyond), default = "holding", legal(cells[2]), int(cells[4])
        is_(default, number(seen[table][first + place] for place in range(count)), cells)
        if first >= 200:
            inside = []
        for value in inside:
            is_(None, client.write(table, first, words(value, count)), cells)
            is_(words(value, count), client.read(table, first, count), cells)
        if beyond < 1 << 16 * count:
            is_(3, client.write(table, first, words(beyond, count)), cells)
        if count == 2:
            is_(2, client.write(table, first, [0]), f"half of {cells}")
    is_([1], client.read("discrete", 8), "changes pending")
    is_(None, client.write("coil", COIL["revert"], [1]), "revert")
    is_([0], client.read("discrete", 8), "changes pending")
    for first, count, cells in HOLDING:
        is_(words(int(cells[4]), count), client.read("holding", first, count), cells)
    # A change goes in whole, or not: threshold with the trigger; a lead beyond its delay.
    is_(None, client.write("holding", 0, [4321]), "threshold")
    is_(None, client.write("holding", 104, [10, 11]), "a lead beyond its delay")
    is_(3, client.write("coil", COIL["commit"], [1]), "a contradiction")
    is_([205], client.read("input", 8), "its code")
    is_([5000], client.read("input", 25), "the threshold in force")
    is_(None, client.write("holding", 104, [1500, 5]), "the defaults")
    is_(None, client.write("holding", 100, [4]), "trigger source command")
    is_(None, client.write("coil", COIL["commit"], [1]), "commit")
    is_([4321], client.read("input", 25), "the threshold in force")
    # Every coil.
    is_(None, client.write("coil", COIL["acknowledge"], [1]), "acknowledge")
    is_([1], client.read("input", 5), "running")
    is_(None, client.write("coil", COIL["trigger"], [1]), "trigger")
    is_([1, 2500], client.read("input", 16, 2), "a good part")
    is_(None, client.write("holding", 201, [2]), "test pieces")
    is_(None, client.write("coil", COIL["challenge"], [1]), "challenge")
    is_(6, client.write("coil", COIL["challenge"], [1]), "another")
    is_(None, client.write("coil", COIL["trigger"], [1]), "a piece that is called good")
    is_([3, 2, 0, 1, 1], client.read("input", 20, 5), "a failed challenge")
    is_(None, client.write("coil", COIL["self_test"], [1]), "self-test")
    is_([2], client.read("input", 7), "passed")
    is_(None, client.write("coil", COIL["reset_counters"], [1]), "reset counters")
    is_([0] * 44, client.read("input", 100, 44), "counters")
    is_(None, client.write("coil", COIL["run"], [0]), "disarm")
    is_([2], client.read("input", 5), "disarmed")
    is_(None, client.write("coil", 0, [1] + 9 * [0]), "all coils")
    is_([1] + 9 * [0], client.read("coil", 0, 10), "armed, power-on flag cleared")
    is_(None, client.write("holding", 200, [32]), "the last recipe")
    is_([32], client.read("input", 6), "it")
    is_(None, client.write("coil", COIL["reboot"], [1]), "reboot")
    # As it was before.
    is_(None, client.write("holding", 200, [1]), "the first recipe")
    is_(None, client.write("holding", 0, [5000]), "the default")
    is_(None, client.write("holding", 100, [0]), "the default")
    is_(None, client.write("coil", COIL["commit"], [1]), "commit")
    is_(None, client.write("holding", 201, [5]), "the default")
    client.close()
    registers = ", ".join(f"{len(seen[table])} {table}" for table in seen)
    print(f"{client.name}: {registers} addresses; {requests} requests as they should be")


def blocks(addresses):
    """Runs of addresses, each as long as one read may be."""
    runs = []
    for address in sorted(addresses):
        # 125 registers fit into an answer; no counter of four is cut here.
        if runs and address == runs[-1][0] + runs[-1][1] and runs[-1][1] < 120:
            runs[-1][1] += 1
        else:
            runs.append([address, 1])
    return runs


check(Pymodbus())
# mbpoll connects anew for every request: over TCP what it writes is dropped before it is read.
if not TCP:
    check(Mbpoll())
