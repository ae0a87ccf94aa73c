// What the mesh saw of a run: its trace as a waterfall, and what the function says.
import { expect, inject, test } from 'vitest';
import { faults, runWordCount, useBrowser, visiting } from './browser';

useBrowser();

test('the trace of a result is shown as a waterfall, and as a table that the keyboard reaches', () =>
  visiting('', async (page) => {
    // An equal call of another test has left a result: a call that takes that has little to show.
    await page.getByRole('checkbox', { name: /^Reuse the result/ }).uncheck();
    await runWordCount(page);
    await page.getByText('Trace', { exact: true }).press('Enter');
    const trace = page.getByRole('region', { name: 'The trace as a waterfall' });
    for (const part of ['POST /v1/call', 'schedule', 'execute', 'run']) {
      await trace.getByRole('rowheader', { name: part, exact: true }).waitFor();
    }
    await trace.getByText(/^claimed after/).waitFor();
    await trace.focus();
    expect(await faults(page)).toEqual([]);
  }));

/** A module that says something hostile on its standard error, then works for a while. */
const talker = `(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\08\\00\\00\\00\\24\\00\\00\\00<img src=x onerror=alert(1)>\\1b[2J now\\0a")
  (func (export "_start") (local i64)
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 100)))
    (local.set 0 (i64.const 0x200000000))
    (loop (local.set 0 (i64.sub (local.get 0) (i64.const 1))) (br_if 0 (i64.ne (local.get 0) (i64.const 0))))))`;

test('what a function says comes while it runs, as text', () =>
  visiting('', async (page) => {
    const post = (route: string, body: string) => fetch(`${inject('base')}/v1/${route}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
    const { cid } = (await (await post('add', talker)).json()) as { cid: string };
    const deployed = (await (await post('deploy', JSON.stringify({ code: cid, language: 'wat' }))).json()) as { function: string };
    await page.getByRole('radio', { name: 'By CID' }).check();
    await page.getByLabel('Function CID').fill(deployed.function);
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    const log = page.getByRole('log');
    await log.getByText('<img src=x onerror=alert(1)>\\u{1b}[2J now').waitFor();
    await page.getByText('live', { exact: true }).waitFor();
    expect(await log.locator('img').count()).toBe(0);
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByRole('alert').getByText('you took it back').waitFor();
    expect(await faults(page)).toEqual([]);
  }));
