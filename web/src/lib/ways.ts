// The ways by which a call may travel.

/** By HTTP to this node, and from there by the shortest way or by PubSub; or by PubSub from this page. */
export type Way = 'auto' | 'pubsub' | 'page';

/** The most bytes of arguments in a letter: what is longer is added and named by its CID. */
export const LETTER_MAX = 28 << 10;
