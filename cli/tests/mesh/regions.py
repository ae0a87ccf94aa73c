#!/usr/bin/env python3
# Networks that lie far from each other, for tests: the text below says how it is told of them.
"""Carries packets between networks of Linux (namespaces), each after the time that it would take over a long way.

usage: regions.py SITES, as JSON: {"sites": [[NETWORK, DEVICE, ADDRESS], ...], "rtt_ms": [[...], ...]}

Every network gets a device at its address; whatever leaves by it comes here, waits for half the round trip between the two
sites, and enters the other network. It says "ready" on stdout once all of them are up, and ends with its stdin. Exit code 3:
this machine has no such devices, or does not let us have them.
"""
import fcntl
import heapq
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
# Packets under way; further ones are lost, as at any router.
PACKETS_MAX = 1 << 16
# The longest packet.
PACKET_MAX = 1 << 16

told = json.loads(sys.argv[1])
delays = [[rtt / 2000 for rtt in row] for row in told["rtt_ms"]]


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def device(network, name, address):
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    ip("link", "set", name, "netns", network)
    ip("-n", network, "addr", "add", f"{address}/16", "dev", name)
    ip("-n", network, "link", "set", name, "up")
    return tun


try:
    tuns = [device(*site) for site in told["sites"]]
except OSError as error:
    print(error, file=sys.stderr)
    sys.exit(3)
sites = {socket.inet_aton(address): at for at, (_, _, address) in enumerate(told["sites"])}
places = {tun: at for at, tun in enumerate(tuns)}
print("ready", flush=True)

under_way, number = [], 0
while True:
    wait = max(0, under_way[0][0] - time.monotonic()) if under_way else None
    for readable in select.select([0, *tuns], [], [], wait)[0]:
        if readable == 0 and not os.read(0, 1):
            sys.exit(0)
        try:
            packet = os.read(readable, PACKET_MAX) if readable else b""
        except BlockingIOError:
            continue
        # IPv4 alone, and only to a site that there is.
        to = sites.get(packet[16:20]) if packet[:1] and packet[0] >> 4 == 4 else None
        if to is not None and len(under_way) < PACKETS_MAX:
            number += 1
            due = time.monotonic() + delays[places[readable]][to]
            heapq.heappush(under_way, (due, number, to, packet))
    while under_way and under_way[0][0] <= time.monotonic():
        _, _, to, packet = heapq.heappop(under_way)
        try:
            os.write(tuns[to], packet)
        except BlockingIOError:
            # That network takes no more now: lost.
            pass
