#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// What the page of examples/web says when the real WebLLM stumbles: that what WebLLM, its runtime and the browser say is understood. By hand, with a
// package that has its library (webllm_acceptance.py --work makes and keeps one).
//
// usage: node real_errors_test.mjs NIBBLE --model FOLDER --webllm PACKAGE_FOLDER [--other-lib FILE.wasm]
// --other-lib is one of another line of WebLLM.
import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { after, test } from 'node:test';
import { parseArgs } from 'node:util';
import { build_with_webllm, serve, start_browser } from './browser.mjs';

const { values: given, positionals: [nibble] } = parseArgs({
    allowPositionals: true,
    options: { model: { type: 'string' }, webllm: { type: 'string' }, 'other-lib': { type: 'string' } },
});
if (!nibble || !given.model || !given.webllm) {
    console.error('usage: node real_errors_test.mjs NIBBLE --model FOLDER --webllm PACKAGE_FOLDER [--other-lib FILE.wasm]');
    process.exit(2);
}
const browser = await start_browser();
const model = resolve(given.model);
const work = mkdtempSync(join(dirname(model), 'nibble-errors-')); // beside the folder, so that its files can be linked
const version = await build_with_webllm(join(work, 'page'), given.webllm);
const servers = [await serve(nibble, join(work, 'page'))];
after(async () => {
    await browser.close();
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(work, { recursive: true, force: true });
});
let n_folders = 0;

/** Loads a spoiled copy of the folder in the page; gives what the page says. */
async function load(change, { library, with_hashes = false, before_loading = () => {} } = {}) {
    const folder = join(work, `${(n_folders += 1)}`);
    mkdirSync(folder);
    for (const name of readdirSync(model)) linkSync(join(model, name), join(folder, name));
    const put = (name, text) => {
        rmSync(join(folder, name), { force: true }); // the name, and not the file that it is linked to
        writeFileSync(join(folder, name), text);
    };
    const mend = (name, how) => put(name, JSON.stringify(how(JSON.parse(readFileSync(join(folder, name), 'utf8')))));
    change({ put, mend, remove: (name) => unlinkSync(join(folder, name)) });
    if (library) put('another.wasm', readFileSync(library));
    mend('webllm-record.json', ({ integrity, ...record }) => ({
        ...record, ...(library && { model_lib: new URL('another.wasm', record.model_lib).href }), ...(with_hashes && { integrity }),
    }));
    const server = await serve(nibble, folder);
    const context = await browser.newContext();
    try {
        const page = await context.newPage();
        page.setDefaultTimeout(120000);
        await page.goto(`${servers[0].url}/index.html?folder=${server.url}`);
        await page.waitForFunction(() => ['found', 'idle'].includes(document.body.dataset.state));
        if (!(await page.locator('#trouble').isVisible())) {
            await before_loading(server);
            await page.locator('#load').click();
            await page.waitForFunction(() => document.body.dataset.state !== 'loading');
            if ((await page.evaluate(() => document.body.dataset.state)) === 'ready') {
                await page.locator('#message').fill('hello');
                await page.keyboard.press('Enter');
                await page.locator('#trouble').waitFor();
            }
        }
        const [what, cause] = [await page.locator('#what').innerText(), await page.locator('#cause').textContent()];
        console.log(`# ${what} | ${cause.slice(0, 200)}`);
        return { what, cause };
    } finally {
        await context.close();
        await server.stop();
    }
}

const each_index = ['ndarray-cache.json', 'tensor-cache.json'];
const in_every_index = (mend, how) => each_index.forEach((name) => mend(name, (index) => ({ ...index, records: how(index.records) })));

test('a library of another line', { skip: !given['other-lib'] }, async () => {
    assert.match((await load(() => {}, { library: given['other-lib'] })).what, /version of WebLLM/);
});

test('a configuration of which the record knows another', { skip: Number(version.split('.')[2]) < 83 }, async () => {
    assert.match((await load(({ mend }) => mend('mlc-chat-config.json', (config) => ({ ...config, top_p: 0.5 })), { with_hashes: true })).what, /its hash differs/);
});

test('a library that is none', async () => {
    const page = join(work, 'page.wasm');
    writeFileSync(page, '<!doctype html><title>404</title>');
    assert.match((await load(() => {}, { library: page })).what, /no WebAssembly/);
});

test('a parameter that the library wants and the folder lacks', async () => {
    const without = (records) => records.map((shard) => ({ ...shard, records: shard.records.filter(({ name }) => !name.startsWith('model.norm')) }));
    assert.match((await load(({ mend }) => in_every_index(mend, without))).what, /does not belong to these weights/);
});

test('two windows at once', async () => {
    const two = (config) => ({ ...config, context_window_size: 1024, sliding_window_size: 512, attention_sink_size: 0 });
    assert.match((await load(({ mend }) => mend('mlc-chat-config.json', two))).what, /configuration says something that WebLLM refuses/);
});

test('a tokenizer that is none', async () => {
    assert.match((await load(({ put }) => put('tokenizer.json', '{}'))).what, /tokenizer could not be read/);
});

test('a server that ends', async () => {
    assert.match((await load(() => {}, { before_loading: (server) => server.stop() })).what, /could not be fetched/);
});

test('a context for which there is no memory', async () => {
    const huge = (record) => ({ ...record, overrides: { context_window_size: 4000000 } });
    assert.match((await load(({ mend }) => mend('webllm-record.json', huge))).what, /memory|broke off/);
});
