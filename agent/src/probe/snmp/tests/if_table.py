#!/usr/bin/python3
"""A pass_persist helper of snmpd: an ifTable and ifXTable of as many ports as the first argument says.

Counters grow with the seconds since the helper started. Objects of IF-MIB (RFC 2863) and nothing else.
"""
import bisect
import sys
import time

ports = int(sys.argv[1])
began = time.monotonic()
IF, X = (1, 3, 6, 1, 2, 1, 2, 2, 1), (1, 3, 6, 1, 2, 1, 31, 1, 1, 1)


def counter(rate):
    return lambda port: str(int((time.monotonic() - began) * rate) * port)


COLUMNS = {
    IF + (1,): ("integer", str),
    IF + (2,): ("string", lambda port: "GigabitEthernet0/0/%d" % port),
    IF + (3,): ("integer", lambda port: "6"),
    IF + (4,): ("integer", lambda port: "1500"),
    IF + (5,): ("gauge", lambda port: "1000000000"),
    IF + (7,): ("integer", lambda port: "1"),
    IF + (8,): ("integer", lambda port: "1"),
    IF + (9,): ("timeticks", lambda port: "100"),
    X + (1,): ("string", lambda port: "GE0/0/%d" % port),
    X + (15,): ("gauge", lambda port: "1000"),
    X + (16,): ("integer", lambda port: "2"),
    X + (17,): ("integer", lambda port: "1"),
    X + (18,): ("string", lambda port: "to site %d" % port),
    X + (19,): ("timeticks", lambda port: "0"),
}
for arc in (10, 11, 13, 14, 15, 16, 17, 19, 20):
    COLUMNS[IF + (arc,)] = ("counter", counter(1000))
for arc in (2, 3, 4, 5):
    COLUMNS[X + (arc,)] = ("counter", counter(10))
for arc in range(6, 14):
    # Octets faster than packets, all within what a gigabit carries.
    COLUMNS[X + (arc,)] = ("counter64", counter(100000 if arc in (6, 10) else 1000))

names = sorted(column + (port,) for column in COLUMNS for port in range(1, ports + 1))


def answer(name):
    kind, value = COLUMNS[name[:-1]]
    return ".%s\n%s\n%s" % (".".join(map(str, name)), kind, value(name[-1]))


for line in sys.stdin:
    command = line.strip()
    if command == "PING":
        print("PONG", flush=True)
        continue
    if command not in ("get", "getnext"):
        continue
    asked = tuple(int(arc) for arc in sys.stdin.readline().strip().strip(".").split("."))
    at = bisect.bisect_right(names, asked) if command == "getnext" else bisect.bisect_left(names, asked)
    found = at < len(names) and (command == "getnext" or names[at] == asked)
    print(answer(names[at]) if found else "NONE", flush=True)
