// The browser, and what every visit is watched for: errors, broken rules of the policy, requests to other hosts.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, type BrowserContextOptions, type Page, chromium } from 'playwright-core';
import { afterAll, beforeAll, expect, inject } from 'vitest';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

let browser: Browser;

/** Starts the browser for the tests of a file. */
export function useBrowser(): void {
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium', args: FLAGS });
  });
  afterAll(async () => browser.close());
}

export interface Visit {
  page: Page;
  /** What was heard and must not be: errors, dialogs, violations, requests elsewhere. */
  wrong: string[];
  end(): Promise<void>;
}

/** Opens the page of a node in a fresh profile. */
export async function visit(path = '', options: BrowserContextOptions = {}, base = inject('base')): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, colorScheme: 'light', ...options });
  const page = await context.newPage();
  const wrong: string[] = [];
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => {
    wrong.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    if (/Content Security Policy|TrustedHTML/i.test(message.text())) wrong.push(`policy: ${message.text()}`);
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(`${base}/`) && !request.url().startsWith('blob:')) wrong.push(`elsewhere: ${request.url()}`);
  });
  await page.goto(path.startsWith('http') ? path : `${base}/${path}`);
  await page.getByRole('heading', { level: 1 }).waitFor();
  return { page, wrong, end: () => context.close() };
}

/** Does something with a visit, which must have gone without anything wrong. */
export async function visiting(path: string, act: (page: Page) => Promise<void>, options: BrowserContextOptions = {}): Promise<void> {
  const { page, wrong, end } = await visit(path, options);
  try {
    await act(page);
    expect(wrong).toEqual([]);
  } finally {
    await end();
  }
}

/** Faults that axe calls serious or critical, as text. */
export async function faults(page: Page): Promise<string[]> {
  interface Result {
    violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[];
  }
  // By the debugger, which the page's policy does not bind.
  await page.evaluate(axe);
  const result = await page.evaluate(() => (globalThis as unknown as { axe: { run(): Promise<Result> } }).axe.run());
  return result.violations
    .filter((one) => ['serious', 'critical'].includes(one.impact))
    .flatMap((one) => one.nodes.map((node) => `${one.id}: ${node.html} ${node.failureSummary}`));
}

/** Loads the word count example and runs it. */
export async function runWordCount(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Word count', exact: true }).click();
  await page.getByText('Loaded the example').waitFor();
  await page.getByRole('button', { name: 'Run', exact: true }).click();
  await page.getByText('Ran on').waitFor();
}

/** Chooses that the page itself calls by PubSub, and gives it leave. */
export async function allowPage(page: Page): Promise<void> {
  await page.getByLabel('Messages to the executor').selectOption('page');
  await page.getByRole('button', { name: "Let this page ask in the node's place" }).click();
  await page.getByText("It may have functions run in this node's place").waitFor();
}

/** Keeps a picture for the book, where one is asked for: `TIMEROSE_IMAGES` names a folder. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env['TIMEROSE_IMAGES'];
  if (!folder) return;
  await page.evaluate(() => {
    (document.activeElement as HTMLElement | null)?.blur();
    scrollTo(0, 0);
  });
  await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled' });
}
