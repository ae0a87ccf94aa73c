// What happens in the mesh, as this node tells it by `GET /v1/events`.

import type { Answer, JobProgress, Member } from './api';

/** This node's read model. */
interface View {
  members: Member[];
  calls: number;
  calls_waiting: number;
  jobs: number;
  slots_used: number;
  work: number;
  runs: number;
}

/** Work that this node gave to another, or did itself. */
export interface Travel {
  id: number;
  to: string;
  tasks: number;
  at: number;
}

/** A call that has ended. */
export interface Recent extends Answer {
  at: number;
}

/** Calls that are kept for the tables. */
const RECENT_MAX = 50;
/** Travels that are kept for the picture; what is older has arrived. */
const TRAVELS_MAX = 40;

class Live {
  state = $state<'connecting' | 'live' | 'lost'>('connecting');
  view = $state.raw<View | null>(null);
  recent = $state.raw<Recent[]>([]);
  travels = $state.raw<Travel[]>([]);
  /** Tasks by the node that ran them, since the page was opened. */
  done = $state.raw<Record<string, number>>({});
  #source: EventSource | null = null;
  #jobs = new Map<string, Map<string, number>>();
  #next = 0;

  /** Listens while the page is seen: a browser has only six connections to one host, and hidden tabs must not hold them. */
  start(): () => void {
    const follow = () => (document.hidden ? this.#close() : this.#open());
    document.addEventListener('visibilitychange', follow);
    follow();
    return () => {
      document.removeEventListener('visibilitychange', follow);
      this.#close();
    };
  }

  get members(): Member[] {
    return this.view?.members ?? [];
  }

  get me(): Member | undefined {
    return this.members.find((member) => member.self);
  }

  member(id: string): Member | undefined {
    return this.members.find((member) => member.id === id);
  }

  #open(): void {
    if (this.#source) return;
    const source = new EventSource('/v1/events');
    this.#source = source;
    source.onopen = () => (this.state = 'live');
    source.onerror = () => (this.state = 'lost');
    const on = <T>(name: string, take: (data: T) => void) =>
      source.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data) as T));
    on<View>('view', (view) => (this.view = view));
    on<Answer>('call', (call) => this.called(call));
    on<JobProgress>('job', (job) => this.#job(job));
  }

  #close(): void {
    this.#source?.close();
    this.#source = null;
  }

  /** A call has ended: the node told of it, or it was this page's own. */
  called(call: Answer): void {
    this.recent = [{ ...call, at: Date.now() }, ...this.recent].slice(0, RECENT_MAX);
    if (!call.reused) this.#travel(call.executor, 1);
  }

  /** A job tells how much each node has done so far; what is new since the last word has travelled. */
  #job(job: JobProgress): void {
    const key = job.job ?? '';
    const before = this.#jobs.get(key) ?? new Map<string, number>();
    for (const share of job.nodes) {
      const more = share.tasks - (before.get(share.node) ?? 0);
      if (more > 0) this.#travel(share.node, more);
    }
    this.#jobs.set(key, new Map(job.nodes.map((share) => [share.node, share.tasks])));
    if (this.#jobs.size > RECENT_MAX) this.#jobs.delete([...this.#jobs.keys()][0] ?? '');
  }

  #travel(to: string, tasks: number): void {
    this.done = { ...this.done, [to]: (this.done[to] ?? 0) + tasks };
    this.travels = [...this.travels, { id: this.#next++, to, tasks, at: performance.now() }].slice(-TRAVELS_MAX);
  }
}

export const live = new Live();
