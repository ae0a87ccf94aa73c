// The node's counters, out of the text that `GET /metrics` gives.

export interface Metric {
  name: string;
  help: string;
  value: number;
}

/** Reads the text format; series with labels are left to those who scrape them. */
export function parse(text: string): Metric[] {
  const help = new Map<string, string>();
  const found: Metric[] = [];
  for (const line of text.split('\n')) {
    const [, described, said] = /^# HELP (\S+) (.*)$/.exec(line) ?? [];
    if (described) help.set(described, said ?? '');
    const [, name, value] = /^([a-zA-Z_:][\w:]*) (-?[\d.eE+-]+)/.exec(line) ?? [];
    if (name) found.push({ name, help: help.get(name) ?? help.get(name.replace(/_total$/, '')) ?? name, value: Number(value) });
  }
  return found;
}

export async function metrics(): Promise<Metric[]> {
  return parse(await (await fetch('/metrics')).text());
}
