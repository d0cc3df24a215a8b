// SPDX-License-Identifier: Apache-2.0
// Reads what a server offers before WebLLM does: the record, the configuration, and whether every file is there with the length that the
// index gives. WebLLM itself finds these things out late, and says little.
import { Trouble } from './trouble.js';

/** Where WebLLM looks for the files of a record's "model". */
export function files_url(model) {
    const url = model.endsWith('/') ? model : `${model}/`;
    return new URL(/.\/resolve\/[^/]+\//.test(url) ? url : `${url}resolve/main/`).href;
}

/** The index that a version of WebLLM reads; none reads both. */
export function index_name(version) {
    const [major, minor, patch] = version.split('.').map(Number);
    return major === 0 && (minor < 2 || (minor === 2 && patch < 80)) ? 'ndarray-cache.json' : 'tensor-cache.json';
}

/** fetch(), with a reason where there is no answer at all. */
async function ask(url, options) {
    try {
        return await fetch(url, { cache: 'no-store', ...options });
    } catch (error) {
        if (error.name === 'AbortError') throw error;
        const { protocol, host, hostname } = new URL(url);
        if (location.protocol === 'https:' && protocol === 'http:' && !/^(localhost|127\.|\[::1\])/.test(hostname))
            throw new Trouble(`A page of https may not read ${url}.`, 'Serve the folder over https too, or open this page over http on your own machine.', error.message);
        // Without asking to read the answer, a browser lets anything through: that tells a silent server from a forbidden one.
        const there = await fetch(url, { mode: 'no-cors', cache: 'no-store', signal: options?.signal }).then(() => true, () => false);
        throw there
            ? new Trouble(`${host} does not let other pages read ${url}.`,
                'The server must send "Access-Control-Allow-Origin: *" (CORS), also on errors. "nibble serve FOLDER" does.', error.message)
            : new Trouble(`${host} does not answer.`, 'Start it ("nibble serve FOLDER"), and compare the address and the port with what it prints.', error.message);
    }
}

/** The head of an answer; null from a server that gives none without the body. */
async function ask_head(url, signal) {
    const answer = await ask(url, { method: 'HEAD', signal });
    return answer.status === 405 || answer.status === 501 ? null : answer;
}

async function read_json(url, what, missing, signal) {
    const answer = await ask(url, { signal });
    if (!answer.ok) throw new Trouble(`There is no ${what}: ${url} answers ${answer.status}.`, missing);
    const text = await answer.text();
    try {
        const value = JSON.parse(text);
        if (typeof value === 'object' && value !== null) return [value, text];
    } catch {
        // told below
    }
    throw new Trouble(`The ${what} at ${url} is not JSON.`, `Make it anew. It begins with: ${text.slice(0, 60)}`);
}

/** The record that a server offers: nibble serve's own answer, a file in the folder, or the least that WebLLM needs. */
async function read_record(where, signal) {
    const answer = await ask(where, { headers: { accept: 'application/json' }, signal });
    if (answer.ok && (answer.headers.get('content-type') ?? '').includes('json')) {
        const offer = await answer.json().catch(() => null);
        if (offer?.record) return offer.record;
    }
    const file = await ask(new URL('webllm-record.json', files_url(where)), { signal });
    const record = file.ok ? await file.json().catch(() => null) : null;
    const name = new URL(where).pathname.split('/').filter(Boolean).pop() ?? 'model';
    return { model_id: name, ...record, model: where };
}

function check_config(config, url) {
    const remedy = 'Make it anew with "nibble gen-config".';
    if (typeof config.conv_template?.roles !== 'object' || !Array.isArray(config.conv_template?.seps))
        throw new Trouble(`The configuration at ${url} has no conversation template ("conv_template").`, remedy);
    const files = Array.isArray(config.tokenizer_files) ? config.tokenizer_files : [];
    const tokenizer = ['tokenizer.json', 'tokenizer.model'].find((name) => files.includes(name));
    if (tokenizer === undefined)
        throw new Trouble(`The configuration at ${url} names neither tokenizer.json nor tokenizer.model in "tokenizer_files".`, remedy);
    return tokenizer;
}

/** Asks for every shard's length; six at a time. */
async function check_shards(shards, base, signal) {
    const wrong = [];
    const waiting = shards.map((shard, at) => [shard, at]);
    const one_after_the_other = async () => {
        for (let next = waiting.shift(); next; next = waiting.shift()) {
            const [shard, at] = next;
            const answer = await ask_head(new URL(shard.dataPath, base), signal);
            if (answer === null) continue;
            const length = answer.headers.get('content-length');
            if (!answer.ok) wrong.push([at, `${shard.dataPath}: the server answers ${answer.status}`]);
            else if (length !== null && !answer.headers.has('content-encoding') && Number(length) !== shard.nbytes)
                wrong.push([at, `${shard.dataPath}: ${length} bytes instead of ${shard.nbytes}`]);
        }
    };
    await Promise.all(Array.from({ length: 6 }, one_after_the_other));
    if (wrong.length === 0) return;
    const said = wrong.sort(([a], [b]) => a - b).map(([, text]) => text);
    const more = said.length > 3 ? `, and ${said.length - 3} more` : '';
    throw new Trouble(`${wrong.length} of ${shards.length} weight files are missing or cut short: ${said.slice(0, 3).join('; ')}${more}.`,
        'Copy or upload them again, or run "nibble convert" again; "nibble verify FOLDER" compares every byte.');
}

/** Sees that a file can be fetched; gives its entity tag, which changes with its contents. */
async function check_there(url, what, remedy, signal) {
    const answer = await ask_head(url, signal);
    if (answer === null) return '';
    if (!answer.ok) throw new Trouble(`There is no ${what}: ${url} answers ${answer.status}.`, remedy);
    return answer.headers.get('etag') ?? '';
}

async function check_gpu(needs_f16, largest) {
    if (!navigator.gpu && !isSecureContext)
        throw new Trouble(`Browsers give WebGPU only to pages of https and of the machine itself, and this is ${location.origin}.`,
            'Open the page as http://127.0.0.1 or http://localhost on the machine that serves it, or serve it over https.');
    const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
    if (!adapter) throw new Error('WebGPUNotAvailable');
    if (needs_f16 && !adapter.features.has('shader-f16')) throw new Error('shader-f16');
    const limit = adapter.limits.maxStorageBufferBindingSize;
    if (largest.n_bytes > limit)
        throw new Trouble(`The tensor ${largest.name} has ${largest.n_bytes} bytes, and this GPU binds ${limit} at most.`, 'Take a quantization with fewer bits, or another GPU.');
}

/**
 * Everything about the folder at `where` that a page needs before it loads it: {record, base, n_bytes, n_shards, fingerprint}. `fingerprint`
 * changes when the folder's contents do. Throws a Trouble, or the AbortError of `signal`.
 */
export async function look(where, { library, version, signal } = {}) {
    let root;
    try {
        root = new URL(where, location.href).href;
    } catch {
        throw new Trouble(`"${where}" is not an address.`, 'Write the address that "nibble serve" prints, such as http://127.0.0.1:8000.');
    }
    const record = await read_record(root, signal);
    if (record.model_type === 1)
        throw new Trouble(`${record.model_id} makes embeddings and does not chat.`, 'Use it with engine.embeddings.create(), as the snippet at its address shows.');
    if (library) record.model_lib = new URL(library, location.href).href;
    const base = files_url(record.model);
    const [config, config_text] = await read_json(new URL('mlc-chat-config.json', base).href, 'configuration',
        'Is this the folder of a model? Give its address as ?folder=http://127.0.0.1:8000. "nibble gen-config" writes the file; WebLLM looks for it below resolve/main/, where "nibble serve" has it too.', signal);
    const tokenizer = check_config(config, base);
    const index = index_name(version);
    const [cache, cache_text] = await read_json(new URL(index, base).href, 'index of the weights',
        `WebLLM ${version} reads ${index}; "nibble convert" writes it.`, signal);
    const shards = cache.records;
    if (!Array.isArray(shards) || shards.length === 0 || !shards.every((s) => typeof s?.dataPath === 'string' && Number.isFinite(s.nbytes) && Array.isArray(s.records)))
        throw new Trouble(`The index of the weights, ${index}, lists no weights.`, 'Run "nibble convert" again.');
    const tokenizer_tag = await check_there(new URL(tokenizer, base).href, 'tokenizer', 'Copy it from the checkpoint into the folder; "nibble gen-config" does.', signal);
    await check_shards(shards, base, signal);
    const { model_lib } = record;
    if (!/^https?:/.test(model_lib ?? ''))
        throw new Trouble('The record names no model library ("model_lib").',
            'Put the .wasm into the served folder, or give its address under "Model library". The README of this page tells where libraries are.');
    const library_tag = await check_there(model_lib, 'model library', 'Put the .wasm into the served folder, or give its address under "Model library".', signal);
    const f16 = record.required_features?.includes('shader-f16') || /(_|q\d)f16/.test(config.quantization ?? '');
    // In the GPU's memory a tensor has its own type, also where the file stores it as bf16.
    const sizes = shards.flatMap((s) => s.records).map((r) => ({ name: r.name, n_bytes: r.format === 'f32-to-bf16' && r.dtype === 'float32' ? 2 * r.nbytes : r.nbytes }));
    await check_gpu(f16, sizes.reduce((a, b) => (b.n_bytes > a.n_bytes ? b : a)));
    const sum = await crypto.subtle.digest('SHA-256', new TextEncoder().encode([config_text, cache_text, tokenizer_tag, model_lib, library_tag].join('\n')));
    return {
        record, base, n_bytes: shards.reduce((n, s) => n + s.nbytes, 0), n_shards: shards.length,
        fingerprint: Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, '0')).join(''),
    };
}
