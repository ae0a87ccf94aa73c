// The key of this page: made here, kept in this browser, and never sent.

import { type Key, keyOf } from './wire';

/** Pages that are open at the same time and have a key that is kept; further ones have one until they are closed. */
const SLOTS = 8;

export interface PageKey extends Key {
  /** Whether the owner of the node agreed that it asks in the node's place. */
  agreed: boolean;
  /** Notes that the owner did. */
  agree(): void;
}

/** Holds a lock until the page is closed; false where another page has it. */
function hold(name: string): Promise<boolean> {
  return new Promise((done) => {
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      done(lock !== null);
      return lock ? new Promise<void>(() => undefined) : undefined;
    });
  });
}

/** A key that no other page uses now: the later life of a key voids what is said to the earlier one. */
export async function takeKey(store: Storage = localStorage): Promise<PageKey> {
  for (let slot = 0; slot < SLOTS && 'locks' in navigator; slot += 1) {
    const name = `timerose.key.${slot}`;
    if (!(await hold(name))) continue;
    const kept = read(store.getItem(name));
    const keep = (agreed: boolean) => {
      try {
        store.setItem(name, JSON.stringify({ seed: [...page.seed], agreed }));
      } catch {
        // A browser that keeps nothing has the key until the page is closed.
      }
    };
    const page: PageKey = { ...keyOf(kept?.seed ?? fresh()), agreed: kept?.agreed ?? false, agree: () => (keep(true), (page.agreed = true)) };
    if (!kept) keep(false);
    return page;
  }
  const page: PageKey = { ...keyOf(fresh()), agreed: false, agree: () => (page.agreed = true) };
  return page;
}

function fresh(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(32));
}

function read(text: string | null): { seed: Uint8Array; agreed: boolean } | null {
  try {
    const { seed, agreed } = JSON.parse(text ?? 'null') as { seed: number[]; agreed: boolean };
    return seed.length === 32 ? { seed: Uint8Array.from(seed), agreed: agreed === true } : null;
  } catch {
    return null;
  }
}
