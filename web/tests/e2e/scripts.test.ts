// Source text that is written in the page runs in the mesh.
import { expect, inject, test } from 'vitest';
import { allowPage, faults, picture, useBrowser, visiting } from './browser';

useBrowser();

/** Whether the node makes a function of text in this language: it may lack the interpreter, or the page that would bring it. */
async function speaks(language: string, text: string): Promise<boolean> {
  const post = (route: string, body: string) => fetch(`${inject('base')}/v1/${route}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  const { cid } = (await (await post('add', text)).json()) as { cid: string };
  const answer = await post('deploy', JSON.stringify({ code: cid, language }));
  // Without the interpreter the page may still bring it along.
  return answer.ok || (answer.status === 404 && process.env['TIMEROSE_INTERPRETERS'] === '1');
}

test('Python that is written in the page runs, and says on which node', async (context) => {
  if (!(await speaks('python', 'print(1)'))) context.skip('this node has no Python');
  await visiting('', async (page) => {
    const editor = page.getByRole('textbox', { name: 'Python source' });
    await editor.click();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('import sys\nname = sys.stdin.read()\nprint("Hello, " + name + "!")');
    await page.getByLabel('as text').fill('Ann');
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByRole('region', { name: 'The content of the result' }).getByText('Hello, Ann!').waitFor();
    await page.getByText('Ran on').waitFor();
    await page.getByRole('button', { name: 'Python handler' }).click();
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByRole('row', { name: 'letters 3' }).waitFor();
    expect(await faults(page)).toEqual([]);
    await picture(page, 'playground');
    await editor.click();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('raise ValueError("<b>no</b>")');
    await page.keyboard.press('Control+Enter');
    await page.getByRole('alert').getByText('FunctionFailed').waitFor();
    await page.getByRole('alert').getByText('ValueError: <b>no</b>').waitFor();
  });
});

test('Python runs on another node that is asked by PubSub', async (context) => {
  if (!(await speaks('python', 'print(1)'))) context.skip('this node has no Python');
  await visiting('', async (page) => {
    await page.getByRole('textbox', { name: 'Python source' }).click();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('print("It came by PubSub.")');
    await page.getByLabel('Messages to the executor').selectOption('pubsub');
    await page.getByRole('checkbox', { name: /^Reuse the result/ }).uncheck();
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByRole('region', { name: 'The content of the result' }).getByText('It came by PubSub.').waitFor();
    await page.getByText(/^\d+ executors?, by PubSub$/).waitFor();
    const members = (await (await fetch(`${inject('base')}/v1/members`)).json()) as { id: string; self: boolean }[];
    const others = members.filter((member) => !member.self).map((member) => member.id);
    expect(others).toContain(await page.locator('dd a[href^="#/mesh/"]').first().getAttribute('title'));
    expect(await faults(page)).toEqual([]);
  });
});

test('Python that the page itself hands out by PubSub runs', async (context) => {
  if (!(await speaks('python', 'print(1)'))) context.skip('this node has no Python');
  await visiting('', async (page) => {
    await page.getByRole('textbox', { name: 'Python source' }).click();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('import sys\nprint("It came from the page, " + sys.stdin.read())');
    await page.getByLabel('as text').fill(`at ${Date.now()}.`);
    await allowPage(page);
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByRole('region', { name: 'The content of the result' }).getByText('It came from the page, at').waitFor();
    await page.getByText(/^\d+ executors?, by PubSub from this page$/).waitFor();
    // The trace begins in the page, and the executor has its part of it.
    await page.getByText('Trace', { exact: true }).click();
    await page.getByRole('region', { name: 'Trace' }).getByRole('row').nth(1).waitFor();
  });
});

test('JavaScript runs', async (context) => {
  if (!(await speaks('javascript', 'console.log(1)'))) context.skip('this node has no JavaScript');
  await visiting('', async (page) => {
    await page.getByRole('button', { name: 'JavaScript', exact: true }).click();
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByRole('row', { name: 'rose 4' }).waitFor();
  });
});

test('WebAssembly text is assembled and runs, and what is wrong with it is said', async (context) => {
  if (!(await speaks('wat', '(module (memory (export "memory") 1) (func (export "_start")))'))) context.skip('this node assembles no text');
  await visiting('', async (page) => {
    await page.getByRole('button', { name: 'WebAssembly text' }).click();
    await page.getByRole('button', { name: 'Run', exact: true }).click();
    await page.getByText('Hello, by hand!', { exact: false }).last().waitFor();
    await page.getByText('Ran on').waitFor();
    await page.getByRole('textbox', { name: 'WebAssembly text source' }).click();
    await page.keyboard.press('Control+End');
    await page.keyboard.type(')))');
    await page.keyboard.press('Control+Enter');
    await page.getByRole('alert').getByText('Rejected').waitFor();
  });
});

test('the editor obeys the policy, shows text as text and can be left by keyboard', () =>
  visiting('', async (page) => {
    const editor = page.getByRole('textbox', { name: 'Python source' });
    await editor.click();
    await page.keyboard.press('Control+a');
    await page.keyboard.type('# <img src=x onerror=alert(1)>');
    expect(await editor.innerText()).toContain('<img src=x onerror=alert(1)>');
    // Its styles are in force: they come as sheets made by script.
    expect(await page.locator('.cm-gutters').evaluate((gutters) => getComputedStyle(gutters).display)).toBe('flex');
    await page.getByRole('radio', { name: 'JavaScript' }).check();
    await page.getByRole('textbox', { name: 'JavaScript source' }).waitFor();
    await page.getByRole('radio', { name: 'Python' }).check();
    expect(await editor.innerText()).toContain('<img src=x');
    await editor.focus();
    await page.keyboard.press('Tab');
    expect(await page.evaluate(() => document.activeElement?.shadowRoot)).toBeNull();
    expect(await faults(page)).toEqual([]);
  }));
