// A client of a gateway that trusts it in nothing, told what to do by lines of JSON, as helia.mjs is.
//
// usage: trustless.mjs GATEWAY, as http://HOST:PORT
//
// It is Helia's verified-fetch, with no peers but the gateway, and for parts of files and for archives the readers of CARs
// that others use. A line on stdin is {"do": NAME, …}; each is answered by one line {"did": NAME, …} or {"did": NAME,
// "error": TEXT}, in order.

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createInterface } from 'node:readline'

import { withHTTP } from '@helia/http'
import { createVerifiedFetchWithHelia } from '@helia/verified-fetch'
import { CarIndexer, CarReader } from '@ipld/car'
import { MemoryBlockstore } from 'blockstore-core'
import { MultihashIndexSortedReader } from 'cardex/multihash-index-sorted'
import { createHeliaLight } from 'helia'
import { exporter } from 'ipfs-unixfs-exporter'

// How long any one thing may take.
const PATIENCE_MS = 60_000
// What stands before an archive of version 1 within version 2.
const HEAD_BYTES = 51

const gateway = process.argv[2]
const tell = (answer) => process.stdout.write(JSON.stringify(answer) + '\n')
const http = { delegatedRouters: [], recursiveGateways: [gateway], allowInsecure: true, allowLocal: true }
const helia = withHTTP(createHeliaLight(), http)
// The gateway is what Helia falls back to; it never does so where there is nobody else to ask at all.
helia.addRouter({ name: 'nobody', async * findProviders () {} })
await helia.start()
const verifiedFetch = await createVerifiedFetchWithHelia(helia)

const sha256 = (bytes) => createHash('sha256').update(bytes).digest()
const hex = (bytes) => Buffer.from(bytes).toString('hex')

// The blocks of an archive, each of which hashes to its CID.
async function checked (bytes) {
  const blocks = []
  for await (const block of (await CarReader.fromBytes(bytes)).blocks()) {
    if (!sha256(block.bytes).equals(Buffer.from(block.cid.multihash.digest))) {
      throw new Error(`a block is not that of ${block.cid}`)
    }
    blocks.push(block)
  }
  return blocks
}

const commands = {
  // A file, or a part of it, block by block.
  fetch: async ({ path, range }) => {
    const headers = range === undefined ? {} : { range }
    const answer = await verifiedFetch(`ipfs://${path}`, { headers, signal: AbortSignal.timeout(PATIENCE_MS) })
    const bytes = Buffer.from(await answer.arrayBuffer())
    return { status: answer.status, size: bytes.length, sha256: hex(sha256(bytes)) }
  },
  // Bytes of a file, out of one CAR that has what they need and no more.
  part: async ({ path, from, to, offset, length }) => {
    const answer = await fetch(`${gateway}/ipfs/${path}?format=car&entity-bytes=${from}:${to}`)
    const blocks = await checked(Buffer.from(await answer.arrayBuffer()))
    const store = new MemoryBlockstore()
    for (const { cid, bytes } of blocks) {
      await store.put(cid, bytes)
    }
    const parts = []
    for await (const part of (await exporter(path, store)).content({ offset, length })) {
      parts.push(part)
    }
    const bytes = Buffer.concat(parts)
    return { blocks: blocks.length, size: bytes.length, sha256: hex(sha256(bytes)) }
  },
  // What an archive of version 2 in a file holds, and what of it is where its index says.
  index: async ({ file }) => {
    const bytes = await readFile(file)
    const end = Number(bytes.readBigUInt64LE(HEAD_BYTES - 8))
    const places = new Map()
    for await (const { cid, offset } of await CarIndexer.fromBytes(bytes.subarray(HEAD_BYTES, end))) {
      places.set(hex(cid.multihash.digest), offset)
    }
    const reader = MultihashIndexSortedReader.createReader({ reader: new Blob([bytes.subarray(end)]).stream().getReader() })
    let found = 0
    for (let entry = await reader.read(); !entry.done; entry = await reader.read()) {
      found += Number(places.get(hex(entry.value.multihash.digest)) === entry.value.offset)
    }
    return { blocks: (await checked(bytes)).length, found }
  }
}

tell({ ready: true, peer: 'none', addrs: [] })
for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...given } = JSON.parse(line)
  try {
    tell({ did: name, ...await commands[name](given) })
  } catch (error) {
    tell({ did: name, error: String(error) })
  }
}
process.exit(0)
