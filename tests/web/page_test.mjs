#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The page of examples/web in a real browser, from folders that `nibble serve` serves. WebLLM is replaced by fake_webllm.js, so that every
// way in which it may go is tried without a model library.
//
// usage: node page_test.mjs NIBBLE; exit status 77: there is no browser here.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { build_with_fake, serve, start_browser } from './browser.mjs';

const nibble = process.argv[2];
if (!nibble) {
    console.error('usage: node page_test.mjs NIBBLE');
    process.exit(2);
}
const browser = await start_browser();
const work = mkdtempSync(join(tmpdir(), 'nibble-web-'));
await build_with_fake(join(work, 'page'), '0.2.86');
const page_server = await serve(nibble, join(work, 'page'));
const servers = [page_server];
after(async () => {
    await browser.close();
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(work, { recursive: true, force: true });
});

const n_shards = 3;
const shard_bytes = 4096;
let n_folders = 0;

/** A folder that the page takes for a model, its library saying how WebLLM shall behave; `change` spoils it. */
function make_folder(library, change = () => {}) {
    const folder = join(work, `model-${(n_folders += 1)}`);
    mkdirSync(folder);
    const put = (name, value) => writeFileSync(join(folder, name), typeof value === 'string' ? value : JSON.stringify(value));
    put('mlc-chat-config.json', {
        model_type: 'qwen2', quantization: 'q4f32_1', context_window_size: 64, sliding_window_size: -1, tokenizer_files: ['tokenizer.json'],
        conv_template: { name: 'chatml', roles: { user: 'u', assistant: 'a' }, seps: ['\n'] },
    });
    put('tokenizer.json', { model: { vocab: {}, merges: [] } });
    const records = Array.from({ length: n_shards }, (_, i) => ({
        dataPath: `params_shard_${i}.bin`, format: 'raw-shard', nbytes: shard_bytes,
        records: [{ name: `w${i}`, shape: [32, 32], dtype: 'float32', format: 'raw', nbytes: shard_bytes, byteOffset: 0 }],
    }));
    put('tensor-cache.json', { metadata: {}, records });
    for (const { dataPath } of records) put(dataPath, '\0'.repeat(shard_bytes));
    if (library) put('model.wasm', library);
    change({ put, path: (name) => join(folder, name), remove: (name) => rmSync(join(folder, name)), read: (name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) });
    return folder;
}

/** What a test sees and does. */
class Visit {
    static async to(folder_url, { init, query = '', in_browser = browser } = {}) {
        const visit = new Visit();
        visit.context = await in_browser.newContext();
        visit.page = await visit.context.newPage();
        visit.page.setDefaultTimeout(60000);
        visit.errors = [];
        visit.page.on('pageerror', (error) => visit.errors.push(error.message));
        if (init) await visit.page.addInitScript(init);
        await visit.page.goto(`${page_server.url}/index.html?folder=${encodeURIComponent(folder_url)}${query}`);
        return visit;
    }
    state(...wanted) {
        return this.page.waitForFunction((names) => names.includes(document.body.dataset.state), wanted);
    }
    text(id) {
        return this.page.locator(`#${id}`).innerText();
    }
    press(...keys) {
        return keys.reduce((before, key) => before.then(() => this.page.keyboard.press(key)), Promise.resolve());
    }
    async say(text) {
        await this.page.keyboard.type(text);
        await this.press('Enter');
    }
    said() {
        return this.page.locator('#talk > div').allInnerTexts();
    }
    focus() {
        return this.page.evaluate(() => document.activeElement.id);
    }
    async trouble() {
        await this.page.locator('#trouble').waitFor();
        return `${await this.text('what')} ${await this.text('remedy')}`;
    }
    async end() {
        await this.context.close();
        assert.deepEqual(this.errors, [], 'nothing is thrown past the page');
    }
}

/** Opens a folder of its own, served by nibble, and loads it unless told not to. */
async function visit(library, { change, load = true, ...options } = {}) {
    const folder = make_folder(library, change);
    const server = await serve(nibble, folder);
    servers.push(server);
    const v = await Visit.to(server.url, options);
    v.folder = folder;
    v.url = server.url;
    if (load) {
        await v.state('found');
        await v.press('Enter'); // the focus is on "Load the model"
    }
    return v;
}

describe('a folder that is all right', () => {
    test('its record is shown, and that everything is there', async () => {
        const v = await visit({}, { load: false });
        await v.state('found');
        const record = JSON.parse(await v.page.locator('#record').textContent());
        assert.equal(record.model, v.url);
        assert.equal(record.model_lib, `${v.url}/model.wasm`);
        assert.equal(record.model_id, v.folder.split('/').pop());
        assert.equal(await v.text('status'), `${record.model_id}: 0.01 MB in 3 files, all there.`);
        assert.equal(await v.focus(), 'load');
        assert.equal(await v.page.locator('#trouble').isVisible(), false);
        assert.equal(await v.page.locator('#send').isDisabled(), true);
        await v.end();
    });

    test('it loads with progress, and is talked to with the keyboard alone', async () => {
        const v = await visit({ say: 'one two three', pause_ms: 150 }, { load: false });
        await v.state('found');
        await v.page.evaluate(() => {
            globalThis.seen = [];
            const bar = document.getElementById('progress');
            new MutationObserver(() => seen.push([bar.value, bar.hidden, document.getElementById('status').textContent])).observe(bar, { attributes: true });
        });
        await v.press('Enter');
        await v.state('ready');
        const shown = (await v.page.evaluate(() => seen)).filter(([, hidden]) => !hidden).map(([value]) => value);
        assert.deepEqual([...new Set(shown)].map((value) => value.toFixed(2)), ['0.00', '0.33', '0.67', '1.00']);
        assert.equal(await v.page.locator('#progress').isVisible(), false);
        assert.equal(await v.focus(), 'message');
        await v.page.keyboard.type('first');
        await v.press('Shift+Enter');
        await v.page.evaluate(() => {
            globalThis.grown = [];
            const look = () => {
                const box = document.querySelector('#talk > .assistant');
                grown.push([box?.textContent, box?.getAttribute('aria-busy'), document.getElementById('status').textContent]);
            };
            new MutationObserver(look).observe(document.getElementById('talk'), { childList: true, subtree: true });
        });
        await v.say('second');
        await v.page.locator('#talk > .assistant').waitFor();
        await v.state('ready');
        const grown = (await v.page.evaluate(() => globalThis.grown)).filter(([text]) => text);
        assert.deepEqual(grown, ['(1) ', '(1) one ', '(1) one two ', '(1) one two three'].map((text) => [text, 'true', 'The model writes …']));
        assert.deepEqual(await v.said(), ['first\nsecond', '(1) one two three']);
        assert.equal(await v.page.locator('#talk > .assistant').getAttribute('aria-busy'), null);
        assert.equal(await v.text('status'), 'Done: 4 tokens, 12.3 a second.');
        assert.equal(await v.focus(), 'message');
        await v.say('and');
        await v.page.waitForFunction(() => document.querySelectorAll('#talk > .assistant')[1]?.textContent === '(3) one two three');
        await v.state('ready');
        await v.page.locator('#new_chat').click();
        assert.deepEqual(await v.said(), []);
        await v.say('anew');
        await v.page.waitForFunction(() => document.querySelector('#talk > .assistant')?.textContent === '(1) one two three');
        await v.end();
    });

    test('what the model writes is text, whatever it looks like', async () => {
        const v = await visit({ say: '<img src=x onerror=alert(1)><b>bold</b>' });
        await v.state('ready');
        await v.say('<i>x</i>');
        await v.state('answering');
        await v.state('ready');
        assert.deepEqual(await v.said(), ['<i>x</i>', '(1) <img src=x onerror=alert(1)><b>bold</b>']);
        assert.equal(await v.page.locator('#talk img, #talk b, #talk i').count(), 0);
        await v.end();
    });
});

describe('stop', () => {
    test('an answer: what was written stays, and the talk goes on', async () => {
        const v = await visit({ say: 'word '.repeat(500), pause_ms: 20 });
        await v.state('ready');
        await v.say('go');
        await v.page.waitForFunction(() => document.querySelector('#talk > .assistant')?.textContent.length > 20);
        await v.press('Escape');
        await v.state('ready');
        assert.match(await v.text('status'), /^Stopped: \d+ tokens/);
        const [, written] = await v.said();
        assert.ok(written.length > 20 && written.length < 2000, `${written.length} letters`);
        await v.say('more');
        await v.page.waitForFunction(() => document.querySelectorAll('#talk > .assistant')[1]?.textContent.startsWith('(3) word'));
        await v.page.locator('#stop').click();
        await v.state('ready');
        await v.end();
    });

    test('an engine that does not listen: the second press ends it', async () => {
        const v = await visit({ say: 'word '.repeat(5000), pause_ms: 20, deaf: true });
        await v.state('ready');
        await v.say('go');
        await v.page.waitForFunction(() => document.querySelector('#talk > .assistant')?.textContent.length > 20);
        await v.press('Escape');
        assert.equal(await v.text('status'), 'Stopping …');
        await v.press('Escape');
        await v.state('found');
        assert.equal(v.page.workers().length, 0);
        assert.equal(await v.page.locator('#message').inputValue(), 'go');
        await v.end();
    });

    test('loading: the worker ends, and loading can begin again', async () => {
        const v = await visit({ hang: true });
        await v.page.waitForFunction(() => document.getElementById('progress').value > 0.3);
        assert.equal(v.page.workers().length, 1);
        await v.page.locator('#stop').click();
        await v.state('found');
        assert.equal(await v.text('status'), 'Stopped. What has arrived is kept.');
        assert.equal(v.page.workers().length, 0);
        assert.equal(await v.page.locator('#trouble').isVisible(), false);
        writeFileSync(join(v.folder, 'model.wasm'), '{}');
        await v.page.locator('#load').click();
        await v.state('ready');
        await v.end();
    });

    test('looking at a server that does not answer', async () => {
        const silent = createServer(() => {});
        await new Promise((done) => silent.listen(0, '127.0.0.1', done));
        const v = await Visit.to(`http://127.0.0.1:${silent.address().port}`);
        await v.state('looking');
        await v.press('Escape');
        await v.state('idle');
        assert.equal(await v.text('status'), 'Stopped.');
        await v.end();
        silent.closeAllConnections();
        silent.close();
    });
});

// [what is wrong, how the folder is spoiled, what the page says, what it says is to be done]
const broken = [
    ['a missing shard', ({ remove }) => remove('params_shard_1.bin'), /1 of 3 weight files .*params_shard_1\.bin: the server answers 404/, /nibble verify/],
    ['a shard that was cut', ({ path }) => truncateSync(path('params_shard_2.bin'), 100), /params_shard_2\.bin: 100 bytes instead of 4096/, /nibble convert/],
    ['no configuration', ({ remove }) => remove('mlc-chat-config.json'), /no configuration: .*mlc-chat-config\.json answers 404/, /nibble gen-config/],
    ['a configuration that is no JSON', ({ put }) => put('mlc-chat-config.json', '{"a": '), /not JSON/, /begins with: \{"a":/],
    ['a configuration without a template', ({ put, read }) => put('mlc-chat-config.json', { ...read('mlc-chat-config.json'), conv_template: undefined }), /no conversation template/, /nibble gen-config/],
    ['a configuration without a tokenizer', ({ put, read }) => put('mlc-chat-config.json', { ...read('mlc-chat-config.json'), tokenizer_files: ['vocab.txt'] }), /neither tokenizer\.json nor/, /gen-config/],
    ['no tokenizer', ({ remove }) => remove('tokenizer.json'), /no tokenizer: .* answers 404/, /Copy it/],
    ['only the index of older versions', ({ put, read, remove }) => (put('ndarray-cache.json', read('tensor-cache.json')), remove('tensor-cache.json')), /no index of the weights/, /0\.2\.86 reads tensor-cache\.json/],
    ['an index without weights', ({ put }) => put('tensor-cache.json', { records: [] }), /lists no weights/, /nibble convert/],
    ['no model library', ({ remove }) => remove('model.wasm'), /names no model library/, /Model library/],
    ['16-bit floats, which this adapter lacks', ({ put, read }) => put('mlc-chat-config.json', { ...read('mlc-chat-config.json'), quantization: 'q4f16_1' }), /16-bit floats/, /q4f32_1/],
    ['a tensor that the GPU cannot bind', ({ put, read }) => {
        const index = read('tensor-cache.json');
        index.records[0].records[0].nbytes = 2 ** 31;
        put('tensor-cache.json', index);
    }, /The tensor w0 has 2147483648 bytes, and this GPU binds \d+/, /fewer bits/],
];
describe('a folder that is broken is told about before anything is loaded', () => {
    for (const [what, change, said, remedy] of broken) {
        test(what, async () => {
            const v = await visit({}, { change, load: false });
            const trouble = await v.trouble();
            assert.match(trouble, said);
            assert.match(trouble, remedy);
            assert.equal(await v.focus(), 'trouble');
            assert.equal(await v.page.locator('#load').isDisabled(), true);
            await v.end();
        });
    }

    test('and is opened again when it is mended', async () => {
        const v = await visit({}, { change: ({ remove }) => remove('params_shard_0.bin'), load: false });
        assert.match(await v.trouble(), /params_shard_0/);
        writeFileSync(join(v.folder, 'params_shard_0.bin'), '\0'.repeat(shard_bytes));
        await v.page.locator('#look').click();
        await v.state('found');
        assert.equal(await v.page.locator('#trouble').isVisible(), false);
        await v.end();
    });
});

describe('servers', () => {
    test('one that forbids other pages', async () => {
        const plain = createServer((_, answer) => answer.end('{}'));
        await new Promise((done) => plain.listen(0, '127.0.0.1', done));
        const v = await Visit.to(`http://127.0.0.1:${plain.address().port}`);
        assert.match(await v.trouble(), /does not let other pages read .*Access-Control-Allow-Origin.*nibble serve/);
        await v.end();
        plain.closeAllConnections();
        plain.close();
    });

    test('one that knows no HEAD', async () => {
        const folder = make_folder({ say: 'all the same' });
        const plain = createServer((asked, answer) => {
            answer.setHeader('access-control-allow-origin', '*');
            const name = asked.url.split('/').pop();
            if (asked.method === 'HEAD') answer.writeHead(405).end();
            else if (name === '' || name === 'webllm-record.json') answer.writeHead(404).end();
            else answer.end(readFileSync(join(folder, name)));
        });
        await new Promise((done) => plain.listen(0, '127.0.0.1', done));
        const url = `http://127.0.0.1:${plain.address().port}`;
        const v = await Visit.to(url, { query: `&lib=${url}/model.wasm` });
        await v.state('found');
        await v.press('Enter');
        await v.state('ready');
        await v.end();
        plain.closeAllConnections();
        plain.close();
    });

    test('one that is not there', async () => {
        const v = await Visit.to('http://127.0.0.1:1');
        assert.match(await v.trouble(), /127\.0\.0\.1:1 does not answer\. Start it/);
        await v.end();
    });

    test('an address that is none', async () => {
        const v = await Visit.to('http://[');
        assert.match(await v.trouble(), /is not an address/);
        await v.end();
    });

    test('the page\'s own, when no other is named', async () => {
        const v = new Visit();
        v.context = await browser.newContext();
        v.page = await v.context.newPage();
        v.errors = [];
        await v.page.goto(`${page_server.url}/index.html`);
        assert.match(await v.trouble(), /no configuration: .*Is this the folder of a model/);
        assert.equal(await v.page.locator('#folder').inputValue(), page_server.url);
        await v.end();
    });

    test('one that has the page in the folder of the model', async () => {
        const folder = make_folder({ say: 'at home' });
        await build_with_fake(join(folder, 'dist'), '0.2.86');
        const server = await serve(nibble, folder);
        servers.push(server);
        const v = new Visit();
        v.context = await browser.newContext();
        v.page = await v.context.newPage();
        v.errors = [];
        await v.page.goto(`${server.url}/dist/index.html`);
        await v.state('found');
        await v.press('Enter');
        await v.state('ready');
        await v.end();
    });

    test('a folder without a record of its own, and a library from elsewhere', async () => {
        const v = await visit({}, { change: ({ remove }) => remove('model.wasm'), load: false });
        const other = await serve(nibble, make_folder({ say: 'from elsewhere' }));
        servers.push(other);
        await v.trouble();
        await v.page.locator('#library').fill(`${other.url}/model.wasm`);
        await v.page.locator('#look').click();
        await v.state('found');
        await v.press('Enter');
        await v.state('ready');
        await v.say('x');
        await v.page.waitForFunction(() => document.querySelector('#talk > .assistant')?.textContent === '(1) from elsewhere');
        await v.end();
    });
});

describe('browsers', () => {
    test('without WebGPU', async () => {
        const v = await visit({}, { load: false, init: () => Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined }) });
        assert.match(await v.trouble(), /offers no WebGPU\. Take a browser with WebGPU/);
        await v.end();
    });

    test('whose GPU is not usable', async () => {
        const blind = await start_browser({ gpu: false });
        const v = await visit({}, { load: false, in_browser: blind });
        assert.match(await v.trouble(), /offers no WebGPU/);
        await v.end();
        await blind.close();
    });

    test('that give WebGPU only to other pages', async () => {
        const v = await visit({}, { load: false, init: () => {
            Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined });
            Object.defineProperty(globalThis, 'isSecureContext', { value: false });
        } });
        assert.match(await v.trouble(), /only to pages of https .*Open the page as http:\/\/127\.0\.0\.1/);
        await v.end();
    });
});

describe('what WebLLM stumbles over', () => {
    test('while loading: in words, with its own beside', async () => {
        const said = 'LinkError: WebAssembly.instantiate(): Import #4 "env" "TVMFFIWasmSafeCall": function import requires a callable';
        const v = await visit({ throw: said });
        assert.match(await v.trouble(), /does not fit this version of WebLLM/);
        assert.equal(await v.page.locator('#cause').textContent(), said);
        await v.state('found');
        assert.equal(v.page.workers().length, 0);
        await v.end();
    });

    test('a runtime that says why on the console only', async () => {
        const v = await visit({ mutter: '[FATAL] ValueError: Cannot find parameter in cache: w7', throw: '[object Object]' });
        assert.match(await v.trouble(), /does not belong to these weights/);
        assert.match(await v.page.locator('#cause').textContent(), /w7$/);
        await v.end();
    });

    test('while answering: the question is not lost, and the model can be loaded again', async () => {
        const v = await visit({ answer_throws: 'DeviceLostError: The WebGPU device was lost' });
        await v.state('ready');
        await v.say('my question');
        assert.match(await v.trouble(), /out of memory/);
        await v.state('found');
        assert.equal(await v.page.locator('#message').inputValue(), 'my question');
        assert.equal(v.page.workers().length, 0);
        writeFileSync(join(v.folder, 'model.wasm'), '{}');
        await v.page.locator('#load').click();
        await v.state('ready');
        await v.press('Enter');
        await v.page.waitForFunction(() => document.querySelectorAll('#talk > .assistant')[1]?.textContent === '(1) so be it');
        await v.end();
    });

    test('a talk that is too long: the model stays', async () => {
        const v = await visit({ answer_throws: 'ContextWindowSizeExceededError: Prompt tokens exceed context window size' });
        await v.state('ready');
        await v.say('long');
        assert.match(await v.trouble(), /no longer fits.*New chat/);
        await v.state('ready');
        assert.equal(v.page.workers().length, 1);
        await v.end();
    });

    test('an error of the GPU, of which WebLLM says nothing', async () => {
        const v = await visit({ gpu_error: true });
        await v.state('ready');
        await v.say('x');
        assert.match(await v.trouble(), /The GPU refused/);
        assert.match(await v.page.locator('#cause').textContent(), /^GPUValidationError: /);
        await v.state('found');
        await v.end();
    });
});

describe('what the browser stores', () => {
    test('is thrown away when the folder changed', async () => {
        const v = await visit({});
        await v.state('ready');
        const again = async () => {
            await v.page.reload();
            await v.state('found');
            await v.page.locator('#load').click();
            await v.state('ready');
            return v.page.evaluate(() => globalThis.forgotten ?? []);
        };
        assert.deepEqual(await again(), [], 'nothing changed');
        const config = JSON.parse(readFileSync(join(v.folder, 'mlc-chat-config.json'), 'utf8'));
        writeFileSync(join(v.folder, 'mlc-chat-config.json'), JSON.stringify({ ...config, context_window_size: 32 }));
        assert.deepEqual(await again(), [[v.folder.split('/').pop(), v.url]]);
        assert.deepEqual(await again(), [], 'nothing changed since');
        writeFileSync(join(v.folder, 'tokenizer.json'), '{"model": {"vocab": {"a": 0}}}');
        assert.equal((await again()).length, 1, 'the tokenizer changed');
        await v.end();
    });

    test('is thrown away when told to', async () => {
        const v = await visit({});
        await v.state('ready');
        await v.page.locator('#forget').click();
        await v.state('found');
        assert.equal(await v.text('status'), 'The stored files are gone.');
        assert.equal((await v.page.evaluate(() => globalThis.forgotten)).length, 1);
        await v.end();
    });
});
