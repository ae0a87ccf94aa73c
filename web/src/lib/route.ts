// Where in the page one is: everything stands in the part of the address after `#`, which no server ever sees.

import type { Arg } from './api';

/** What is shown. */
export type Route =
  | { page: 'run'; fn: string; entry: string; args: Arg[] }
  | { page: 'mesh'; node: string }
  | { page: 'data'; cid: string; path: string[] }
  | { page: 'jobs'; fn: string; dataset: string; job: string };

/** Arguments of a link; a link with more is cut off. */
const ARGS_MAX = 64;

/** Reads the part of an address after `#`. What makes no sense shows the playground. */
export function parse(hash: string): Route {
  const [place = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const [page, first = '', ...rest] = place.split('/').map(decoded);
  const given = new URLSearchParams(query);
  switch (page) {
    case 'mesh':
      return { page, node: first };
    case 'data':
      return { page, cid: first, path: rest.filter((part) => part !== '') };
    case 'jobs':
      return { page, fn: given.get('fn') ?? '', dataset: given.get('data') ?? '', job: given.get('job') ?? '' };
    default:
      return { page: 'run', fn: given.get('fn') ?? '', entry: given.get('entry') ?? '', args: given.getAll('arg').slice(0, ARGS_MAX).map(arg) };
  }
}

/** Writes it. */
export function href(route: Route): string {
  const query = new URLSearchParams();
  switch (route.page) {
    case 'mesh':
      return route.node ? `#/mesh/${encodeURIComponent(route.node)}` : '#/mesh';
    case 'data':
      return ['#/data', ...(route.cid ? [route.cid, ...route.path] : []).map(encodeURIComponent)].join('/');
    case 'jobs':
      if (route.fn) query.set('fn', route.fn);
      if (route.dataset) query.set('data', route.dataset);
      if (route.job) query.set('job', route.job);
      return query.size ? `#/jobs?${query}` : '#/jobs';
    case 'run':
      if (route.fn) query.set('fn', route.fn);
      if (route.entry) query.set('entry', route.entry);
      for (const one of route.args) query.append('arg', 'cid' in one ? `cid:${one.cid}` : `text:${one.text}`);
      return query.size ? `#/run?${query}` : '#/run';
  }
}

function arg(text: string): Arg {
  return text.startsWith('cid:') ? { cid: text.slice(4) } : { text: text.replace(/^text:/, '') };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
