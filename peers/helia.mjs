// A real Helia on loopback for tests, told what to do by lines of JSON.
//
// A line on stdin is {"do": NAME, …}; each is answered by one line {"did": NAME, …} or {"did": NAME, "error": TEXT}, in
// order. The first line on stdout is {"ready": true, "peer": ID, "addrs": […]}. Messages of topics come as
// {"topic": T, "from": ID, "hex": BYTES} at any time. The process ends with its stdin. The first argument is the DHT's protocol, by default that
// of the LAN.

import { createHash } from 'node:crypto'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { createInterface } from 'node:readline'

import { withBitswap } from '@helia/bitswap'
import { car } from '@helia/car'
import { withLibp2pLight } from '@helia/libp2p'
import { unixfs } from '@helia/unixfs'
import { CarReader } from '@ipld/car'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { createHeliaLight } from 'helia'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced, trickle } from 'ipfs-unixfs-importer/layout'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

// How long any one thing may take.
const PATIENCE_MS = 60_000
// The codec of dag-cbor.
const DAG_CBOR = 0x71

const tell = (answer) => process.stdout.write(JSON.stringify(answer) + '\n')

const libp2p = {
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify(),
    ping: ping(),
    // Peers of tests live on loopback, which the usual mapper takes out.
    dht: kadDHT({ protocol: process.argv[2] ?? '/ipfs/lan/kad/1.0.0', clientMode: false, peerInfoMapper: passthroughMapper }),
    pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, globalSignaturePolicy: 'StrictSign' })
  }
}

// Blocks that are given as a peer of that character gives them.
class Blocks extends MemoryBlockstore {
  // What becomes of a block that is read once so many have been: 'liar' gives other bytes, 'staller' gives nothing until it turns
  // again.
  character = 'honest'
  reads = Infinity
  // Blocks that were not given as they are.
  wronged = 0
  // What waits for the next turn.
  stalled = []

  turn (character, reads) {
    Object.assign(this, { character, reads, wronged: 0 })
    this.stalled.splice(0).forEach((go) => go())
  }

  async * get (cid, options) {
    this.reads -= 1
    if (this.reads >= 0) {
      yield * super.get(cid, options)
      return
    }
    this.wronged += 1
    if (this.character === 'staller') {
      await new Promise((resolve) => this.stalled.push(resolve))
      yield * super.get(cid, options)
      return
    }
    for await (const part of super.get(cid, options)) {
      yield part.map((byte) => byte ^ 1)
    }
  }
}

const blocks = new Blocks()
const helia = withBitswap(withLibp2pLight(createHeliaLight({ blockstore: blocks }), libp2p))
await helia.start()
const node = helia.libp2p
const { pubsub } = node.services
const files = unixfs(helia)
const archives = car(helia)

pubsub.addEventListener('message', ({ detail }) => {
  tell({ topic: detail.topic, from: detail.from?.toString(), hex: Buffer.from(detail.data).toString('hex') })
})

// The importer's settings under which `ipfs add` and TimeRose make the same CIDs. Of itself Helia's trickle layout has leaves of the
// type `file`, and no node above a single leaf.
const asKubo = ({ version = 1, raw = version === 1, chunk = 262_144, trickles = false }) => ({
  cidVersion: version,
  rawLeaves: raw,
  leafType: trickles ? 'raw' : 'file',
  reduceSingleLeafToSelf: !trickles,
  chunker: fixedSize({ chunkSize: chunk }),
  layout: (trickles ? trickle : balanced)({ maxChildrenPerNode: 174 }),
  wrapWithDirectory: false
})

// What the importer is given of a file or a folder and all below it; `keep` says whether with modes and times.
async function * candidates (path, name, keep) {
  const { mode, mtimeMs, isFile } = await stat(path).then((found) => ({ ...found, isFile: found.isFile() }))
  const mtime = { secs: BigInt(Math.floor(mtimeMs / 1000)) }
  const kept = keep ? { mode: mode & 0o7777, mtime } : {}
  if (isFile) {
    yield { path: name, content: await readFile(path), ...kept }
    return
  }
  yield { path: name, ...kept }
  for (const entry of await readdir(path)) {
    yield * candidates(join(path, entry), `${name}/${entry}`, keep)
  }
}

const commands = {
  connect: async ({ addr }) => {
    await node.dial(multiaddr(addr), { signal: AbortSignal.timeout(PATIENCE_MS) })
    return {}
  },
  peers: async () => ({ peers: node.getPeers().map(String) }),
  add: async ({ path, keep = false, ...options }) => {
    let cid
    // The root comes last.
    for await (const added of files.addAll(candidates(path, basename(path), keep), asKubo(options))) {
      cid = added.cid
    }
    return { cid: cid.toString() }
  },
  // Takes all blocks of an archive, and says what its roots are.
  import: async ({ file }) => {
    const reader = await CarReader.fromBytes(await readFile(file))
    await archives.import(reader)
    return { roots: (await reader.getRoots()).map(String) }
  },
  // Writes all blocks below a root into an archive of version 1.
  export: async ({ cid, file }) => {
    await writeFile(file, archives.export(CID.parse(cid), { offline: true, signal: AbortSignal.timeout(PATIENCE_MS) }))
    return {}
  },
  // Makes a block of dag-cbor: a list of up to 23 links.
  tie: async ({ cids }) => {
    const links = cids.map((cid) => CID.parse(cid).bytes)
    const block = Uint8Array.from([0x80 + links.length, ...links.flatMap((link) => [0xd8, 0x2a, 0x58, link.length + 1, 0, ...link])])
    const cid = CID.createV1(DAG_CBOR, await sha256.digest(block))
    await helia.blockstore.put(cid, block)
    return { cid: cid.toString() }
  },
  cat: async ({ cid, path }) => {
    const hash = createHash('sha256')
    let size = 0
    for await (const part of files.cat(CID.parse(cid), { path, signal: AbortSignal.timeout(PATIENCE_MS) })) {
      hash.update(part)
      size += part.length
    }
    return { size, sha256: hash.digest('hex') }
  },
  // Of the blocks that it is asked for from now on, it gives the first `after` as they are.
  turn: async ({ character, after }) => {
    blocks.turn(character, after)
    return {}
  },
  wronged: async () => ({ blocks: blocks.wronged }),
  provide: async ({ cid }) => {
    await node.contentRouting.provide(CID.parse(cid), { signal: AbortSignal.timeout(PATIENCE_MS) })
    return {}
  },
  find: async ({ cid }) => {
    const providers = new Set()
    for await (const provider of node.contentRouting.findProviders(CID.parse(cid), { signal: AbortSignal.timeout(5_000) })) {
      providers.add(provider.id.toString())
    }
    return { providers: [...providers] }
  },
  subscribe: async ({ topic }) => {
    pubsub.subscribe(topic)
    return {}
  },
  subscribers: async ({ topic }) => ({ peers: pubsub.getSubscribers(topic).map(String) }),
  publish: async ({ topic, hex }) => {
    const { recipients } = await pubsub.publish(topic, Buffer.from(hex, 'hex'))
    return { recipients: recipients.map(String) }
  }
}

tell({ ready: true, peer: node.peerId.toString(), addrs: node.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(line)
  try {
    tell({ did: name, ...await commands[name](given) })
  } catch (error) {
    tell({ did: name, error: String(error) })
  }
}
process.exit(0)
