// This page as a peer: js-libp2p over WebSocket to its own node, and gossipsub.

import { generateKeyPairFromSeed } from '@libp2p/crypto/keys';
import { type GossipSub, gossipsub } from '@libp2p/gossipsub';
import { identify } from '@libp2p/identify';
import { noise } from '@libp2p/noise';
import { webSockets } from '@libp2p/websockets';
import { yamux } from '@libp2p/yamux';
import { multiaddr } from '@multiformats/multiaddr';
import { createLibp2p } from 'libp2p';
import type { Key } from './wire';

/** How long a topic on which somebody is written to may take to be listened to. */
const LISTENED_MS = 1_000;
/** How long the node may take to be connected with. */
const DIAL_MS = 10_000;

export interface Topics {
  publish(topic: string, bytes: Uint8Array): void;
  /** Joins a topic to write there, and waits until somebody listens. Leave it when there is no more to write. */
  join(topic: string): Promise<void>;
  leave(topic: string): void;
  connected(): boolean;
  end(): Promise<void>;
}

/** Connects with a node and listens to a topic. */
export async function connect(key: Key, addr: string, own: string, heard: (bytes: Uint8Array) => void): Promise<Topics> {
  const node = await createLibp2p({
    privateKey: await generateKeyPairFromSeed('Ed25519', key.seed),
    addresses: { listen: [] },
    transports: [webSockets()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // The only address that is dialled is the node's own, on loopback, which the usual rule of browsers refuses.
    connectionGater: { denyDialMultiaddr: () => false },
    services: { identify: identify(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, globalSignaturePolicy: 'StrictSign' }) },
  });
  const pubsub = node.services.pubsub as GossipSub;
  pubsub.addEventListener('message', ({ detail }) => {
    if (detail.topic === own) heard(detail.data);
  });
  // Several calls may write on one topic.
  const joined = new Map<string, number>();
  const listened = (topic: string) => pubsub.getSubscribers(topic).length > 0;
  const wait = (topic: string) =>
    new Promise<void>((done) => {
      const look = () => {
        if (listened(topic)) end();
      };
      const end = () => {
        clearTimeout(timer);
        pubsub.removeEventListener('subscription-change', look);
        done();
      };
      const timer = setTimeout(end, LISTENED_MS);
      pubsub.addEventListener('subscription-change', look);
      look();
    });
  try {
    pubsub.subscribe(own);
    await node.dial(multiaddr(addr), { signal: AbortSignal.timeout(DIAL_MS) });
    await wait(own);
  } catch (error) {
    await node.stop();
    throw error;
  }
  return {
    publish: (topic, bytes) => void pubsub.publish(topic, bytes).catch(() => undefined),
    join: async (topic) => {
      const others = joined.get(topic) ?? 0;
      joined.set(topic, others + 1);
      if (others === 0) pubsub.subscribe(topic);
      await wait(topic);
    },
    leave: (topic) => {
      const others = (joined.get(topic) ?? 1) - 1;
      joined.set(topic, others);
      if (others === 0) pubsub.unsubscribe(topic);
    },
    connected: () => node.getConnections().length > 0,
    end: async () => node.stop(),
  };
}
