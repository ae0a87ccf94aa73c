// For everybody: no serious fault, by keyboard alone, 400 pixels wide, dark and light, with little motion.
import type { Page } from 'playwright-core';
import { describe, expect, test } from 'vitest';
import { allowPage, faults, picture, runWordCount, useBrowser, visiting } from './browser';

useBrowser();

/** Every kind of view, with something in it. */
const views: [string, string, (page: Page) => Promise<void>][] = [
  ['playground', '', runWordCount],
  ['mesh', '#/mesh', async (page) => page.getByRole('table').waitFor()],
  [
    'node',
    '#/mesh',
    async (page) => {
      await page.getByRole('row', { name: 'this node' }).getByRole('link').click();
      await page.getByRole('heading', { name: 'Work, traffic and store' }).waitFor();
    },
  ],
  [
    'data',
    '#/data',
    async (page) => {
      const file = { name: 'rose.txt', mimeType: 'text/plain', buffer: Buffer.from('a rose') };
      await page.getByLabel('Files', { exact: true }).setInputFiles(file);
      await page.locator('.added a[href^="#/data/"]').click();
      await page.getByText('a rose').waitFor();
    },
  ],
  ['jobs', '#/jobs', async (page) => page.getByRole('button', { name: 'Start' }).waitFor()],
  [
    'detached work',
    '',
    async (page) => {
      await page.getByRole('button', { name: 'Word count', exact: true }).click();
      await page.getByText('Loaded the example').waitFor();
      await page.getByRole('checkbox', { name: /^Detached/ }).check();
      await page.getByRole('button', { name: 'Run', exact: true }).click();
      await page.getByRole('region', { name: 'Pieces of detached work' }).getByRole('cell', { name: 'done', exact: true }).first().waitFor();
    },
  ],
  [
    'page as a peer',
    '',
    async (page) => {
      await allowPage(page);
      await runWordCount(page);
      await page.getByText('by PubSub from this page').waitFor();
    },
  ],
  [
    'record',
    '',
    async (page) => {
      await runWordCount(page);
      await page.locator('dt:text-is("Function") + dd a').click();
      await page.getByText('A DAG-CBOR record').waitFor();
    },
  ],
];

describe.each(['light', 'dark'] as const)('%s', (colorScheme) => {
  test.each(views)('%s has no serious fault', (name, path, fill) =>
    visiting(
      path,
      async (page) => {
        await fill(page);
        expect(await faults(page)).toEqual([]);
        if (colorScheme === 'dark' && name === 'mesh') await picture(page, 'mesh-dark');
      },
      { colorScheme },
    ),
  );
});

test('the colours follow the system', async () => {
  const back = async (colorScheme: 'light' | 'dark') => {
    let colour = '';
    await visiting('', async (page) => void (colour = await page.evaluate(() => getComputedStyle(document.body).backgroundColor)), { colorScheme });
    return colour;
  };
  const [light, dark] = [await back('light'), await back('dark')];
  const brightness = (colour: string) => (colour.match(/\d+/g) ?? []).slice(0, 3).reduce((sum, n) => sum + Number(n), 0);
  expect(brightness(light)).toBeGreaterThan(600);
  expect(brightness(dark)).toBeLessThan(200);
});

test.each(views)('%s fits 400 pixels', (name, path, fill) =>
  visiting(
    path,
    async (page) => {
      await fill(page);
      const wide = await page.evaluate(() => {
        const inside = (element: Element): boolean =>
          element.parentElement !== null && (getComputedStyle(element.parentElement).overflowX !== 'visible' || inside(element.parentElement));
        return [...document.querySelectorAll('body *')]
          .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !inside(element))
          .map((element) => element.outerHTML.slice(0, 120));
      });
      expect(wide).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(400);
      if (name === 'playground') await page.evaluate(() => scrollTo(0, 0));
      if (['playground', 'mesh'].includes(name)) await picture(page, `${name}-narrow`);
    },
    { viewport: { width: 400, height: 800 } },
  ),
);

test('everything can be done by keyboard, and what has the focus can be seen', () =>
  visiting('', async (page) => {
    const press = (key: string) => page.keyboard.press(key);
    const focus = () =>
      page.evaluate(() => {
        const element = document.activeElement as HTMLElement;
        const style = getComputedStyle(element);
        const label = (element as HTMLInputElement).labels?.[0]?.innerText;
        const name = element.getAttribute('aria-label') || label || element.innerText || element.getAttribute('name') || element.tagName;
        return { name: name.trim(), outlined: style.outlineStyle !== 'none' && Number.parseFloat(style.outlineWidth) >= 2 };
      });
    const reach = async (name: RegExp) => {
      for (let i = 0; i < 60; i += 1) {
        await press('Tab');
        const now = await focus();
        expect(now.outlined, `${now.name} has the focus and does not show it`).toBe(true);
        if (name.test(now.name)) return;
      }
      throw new Error(`the keyboard does not reach ${name}`);
    };
    await reach(/^Skip to the content$/);
    await press('Enter');
    expect(await page.evaluate(() => document.activeElement?.id)).toBe('main');
    await reach(/^Word count$/);
    await press('Enter');
    await page.getByText('Loaded the example').waitFor();
    await reach(/^Argument 1.*as text$/);
    await press('Control+a');
    await page.keyboard.type('by keys alone');
    await press('Control+Enter');
    await page.getByRole('row', { name: 'keys 1' }).waitFor();

    // The page as a peer: the last of three ways.
    await reach(/^Messages to the executor/);
    await press('End');
    await page.getByRole('button', { name: /^Let this page ask/ }).waitFor();
    await reach(/^Let this page ask/);
    await press('Enter');
    await page.getByText("It may have functions run in this node's place").waitFor();
    await reach(/^Run$/);
    await press('Enter');
    await page.getByText('by PubSub from this page').waitFor();

    await page.reload();
    await page.getByRole('heading', { name: 'Playground' }).waitFor();
    await reach(/^Mesh$/);
    await press('Enter');
    await expect.poll(() => page.evaluate(() => document.activeElement?.outerHTML)).toMatch(/^<h1.*Mesh/);
    expect(await page.title()).toBe('Mesh · TimeRose');
  }));

test('with reduced motion nothing travels, and the table still tells', () =>
  visiting(
    '#/mesh',
    async (page) => {
      await page.getByRole('table').waitFor();
      expect(await page.evaluate(() => matchMedia('(prefers-reduced-motion: reduce)').matches)).toBe(true);
      expect(await page.locator('svg .work').count()).toBe(0);
    },
    { reducedMotion: 'reduce' },
  ));
