#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The real WebLLM in a real browser, on a package that `nibble serve` serves, with the record that it offers. First in the page of examples/web: WebLLM generates with
// temperature 0, and the logits of every step are written down. Then as a user of that page: load, ask, read, stop.
//
// usage: node webllm_run.mjs NIBBLE --model FOLDER --webllm PACKAGE_FOLDER --out FOLDER [--prompt TEXT] [--tokens N]
// Writes run.json and logits.f32 (a row of f32 for each token) to OUT. CHROMIUM names the browser; its software adapter is used.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { build_with_webllm, serve, start_browser } from './browser.mjs';

const { values: given, positionals: [nibble] } = parseArgs({
    allowPositionals: true,
    options: {
        model: { type: 'string' }, webllm: { type: 'string' }, out: { type: 'string' },
        prompt: { type: 'string', default: 'Tell me of a bird.' }, tokens: { type: 'string', default: '8' },
    },
});
if (!nibble || !given.model || !given.webllm || !given.out) {
    console.error('usage: node webllm_run.mjs NIBBLE --model FOLDER --webllm PACKAGE_FOLDER --out FOLDER [--prompt TEXT] [--tokens N]');
    process.exit(2);
}

/** In the page: WebLLM's answer at temperature 0, and what it saw. */
async function generate({ record, prompt, n_tokens }) {
    const { CreateMLCEngine } = await import('./web-llm.js');
    const adapter = await navigator.gpu.requestAdapter();
    const tokens = [];
    let n_logits = 0;
    const watch = {
        processLogits(logits) {
            n_logits = logits.length;
            const bytes = new Uint8Array(logits.buffer.slice(logits.byteOffset, logits.byteOffset + logits.byteLength));
            let text = '';
            for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
            keep_logits(btoa(text));
            return logits;
        },
        processSampledToken: (token) => tokens.push(token),
        resetState() {},
    };
    const begin = performance.now();
    const engine = await CreateMLCEngine(record.model_id, {
        appConfig: { model_list: [record] }, logitProcessorRegistry: new Map([[record.model_id, watch]]), initProgressCallback: ({ text }) => tell(text),
    });
    const loaded = performance.now();
    const greedy = { temperature: 0, top_p: 1, frequency_penalty: 0, presence_penalty: 0 };
    const reply = await engine.chat.completions.create({ messages: [{ role: 'user', content: prompt }], max_tokens: n_tokens, ...greedy });
    const done = performance.now();
    globalThis.unload = () => engine.unload();
    return {
        adapter: { vendor: adapter.info.vendor, architecture: adapter.info.architecture, shader_f16: adapter.features.has('shader-f16') },
        load_s: (loaded - begin) / 1000, generate_s: (done - loaded) / 1000, tokens, n_logits, prompt_tokens: reply.usage.prompt_tokens,
        text: reply.choices[0].message.content, finish: reply.choices[0].finish_reason,
    };
}

/** What a user of the page does and sees. */
async function use_page(page) {
    const state = (wanted) => page.waitForFunction((name) => document.body.dataset.state === name || !document.getElementById('trouble').hidden, wanted);
    const trouble = async () => {
        if (await page.locator('#trouble').isVisible()) throw new Error(`the page says: ${await page.locator('#trouble').innerText()}`);
    };
    await page.locator('#load').click();
    await state('ready');
    await trouble();
    await page.locator('#message').fill(given.prompt);
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.querySelector('#talk > .assistant')?.textContent.length > 0 || !document.getElementById('trouble').hidden);
    await page.keyboard.press('Escape');
    await state('ready');
    await trouble();
    return { status: await page.locator('#status').innerText(), text: await page.locator('#talk > .assistant').innerText() };
}

const begin = Date.now();
const tell = (text) => console.error(`${((Date.now() - begin) / 1000).toFixed(1).padStart(6)}  ${text}`);
const version = await build_with_webllm(join(given.out, 'page'), given.webllm);
const servers = [];
const browser = await start_browser();
try {
    for (const folder of [join(given.out, 'page'), given.model]) servers.push(await serve(nibble, folder));
    const [page_url, model_url] = servers.map(({ url }) => url);
    const page = await browser.newPage();
    page.setDefaultTimeout(500000);
    const gpu_errors = [];
    const logits = [];
    page.on('console', (message) => {
        if (message.type() === 'error' || message.type() === 'warning') tell(`console: ${message.text().slice(0, 300)}`);
        if (/GPU|WGSL|shader/i.test(message.text()) && message.type() === 'error') gpu_errors.push(message.text().slice(0, 300));
    });
    await page.exposeFunction('tell', tell);
    await page.exposeFunction('keep_logits', (text) => {
        logits.push(Buffer.from(text, 'base64'));
    });
    await page.goto(`${page_url}/index.html?folder=${model_url}`);
    await page.waitForFunction(() => ['found', 'idle'].includes(document.body.dataset.state));
    if (await page.locator('#trouble').isVisible()) throw new Error(`the page says: ${await page.locator('#trouble').innerText()}`);
    const record = JSON.parse(await page.locator('#record').textContent());
    const run = await page.evaluate(generate, { record, prompt: given.prompt, n_tokens: Number(given.tokens) });
    const errors_of_run = [...gpu_errors]; // older versions complain when the GPU is given back
    await page.evaluate(() => globalThis.unload());
    const in_page = await use_page(page);
    writeFileSync(join(given.out, 'logits.f32'), Buffer.concat(logits));
    writeFileSync(join(given.out, 'run.json'), JSON.stringify({ webllm: version, record, prompt: given.prompt, ...run, gpu_errors: errors_of_run, page: in_page }, null, 1));
    tell(`done: ${JSON.stringify(run.text)}; in the page: ${JSON.stringify(in_page)}`);
} finally {
    await browser.close();
    await Promise.all(servers.map((server) => server.stop()));
}
