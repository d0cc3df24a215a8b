// SPDX-License-Identifier: Apache-2.0
// The page: opens the folder of ?folder= (else of the server that the page is from), loads it into WebLLM when told to, and chats.
import { look } from './folder.js';
import { explain } from './trouble.js';
import { version } from './version.js';
import { deleteModelAllInfoInCache, WebWorkerMLCEngine } from './web-llm.js';

const at = (id) => document.getElementById(id);
const megabytes = (n) => `${(n / 1e6).toLocaleString('en', { maximumFractionDigits: n < 1e7 ? 2 : 0 })} MB`;

// What goes on: 'idle', 'looking', 'found', 'loading', 'ready', 'answering'.
let state = 'idle';
let offer; // what look() found
let engine, worker;
let give_up = () => {}; // ends what is under way, from outside
let stopping = false; // an answer that was told to stop
let messages = [];
let last_words = []; // what WebLLM wrote on the console as errors

function enter(next, said) {
    state = next;
    document.body.dataset.state = next;
    const busy = ['looking', 'loading', 'answering'].includes(next);
    at('look').disabled = busy;
    at('load').disabled = next !== 'found';
    at('stop').disabled = !busy;
    at('forget').disabled = busy || !offer;
    at('message').disabled = next !== 'ready';
    at('send').disabled = next !== 'ready';
    at('new_chat').disabled = busy || messages.length === 0;
    at('progress').hidden = !['looking', 'loading'].includes(next);
    if (said !== undefined) at('status').textContent = said;
}

function show_trouble(error) {
    const trouble = explain(error, last_words.join('\n'));
    at('what').textContent = trouble.message;
    at('remedy').textContent = trouble.remedy;
    at('cause').textContent = trouble.cause ?? '';
    at('cause_box').hidden = !trouble.cause;
    at('trouble').hidden = false;
    at('trouble').focus();
}

const stopped = new DOMException('stopped', 'AbortError');
const was_stopped = (error) => error?.name === 'AbortError';

/** What `work` gives, unless give_up(error) is called before: WebLLM itself need not answer for that. */
function unless_given_up(work) {
    return Promise.race([work, new Promise((_, reject) => {
        give_up = reject;
    })]);
}

function end_engine() {
    worker?.terminate();
    worker = engine = undefined;
}

/** The worker or the GPU failed, whatever is under way. */
function engine_failed(error) {
    if (state === 'loading' || state === 'answering') {
        give_up(error);
    } else if (engine) {
        end_engine();
        enter('found', 'Load the model again to go on.');
        show_trouble(error);
    }
}

/** The messages of watch.js: heard before WebLLM's own listener, which knows nothing of them. */
function hear(event) {
    const { gpu_error, said } = event.data ?? {};
    if (gpu_error === undefined && said === undefined) return;
    event.stopImmediatePropagation();
    if (said !== undefined) last_words = [...last_words, said].filter(Boolean).slice(-8);
    else engine_failed(gpu_error);
}

function stop() {
    if (state === 'looking') {
        give_up();
    } else if (state === 'loading' || stopping) {
        give_up(stopped);
    } else if (state === 'answering') {
        // WebLLM looks at this between two tokens. Whoever cannot wait for that presses again, and the engine ends.
        stopping = true;
        at('status').textContent = 'Stopping …';
        engine.interruptGenerate();
    }
}

async function open_folder() {
    end_engine();
    offer = undefined;
    last_words = [];
    start_over();
    at('trouble').hidden = true;
    at('record_box').hidden = true;
    at('progress').removeAttribute('value');
    enter('looking', 'Looking at the folder …');
    const control = new AbortController();
    give_up = () => control.abort();
    try {
        offer = await look(at('folder').value.trim(), { library: at('library').value.trim(), version, signal: control.signal });
        at('record').textContent = JSON.stringify(offer.record, null, 2);
        at('record_box').hidden = false;
        enter('found', `${offer.record.model_id}: ${megabytes(offer.n_bytes)} in ${offer.n_shards} file${offer.n_shards === 1 ? '' : 's'}, all there.`);
        at('load').focus();
    } catch (error) {
        enter('idle', was_stopped(error) ? 'Stopped.' : '');
        if (!was_stopped(error)) show_trouble(error);
    }
}

const app_config = () => ({ model_list: [offer.record] });
const forget = () => deleteModelAllInfoInCache(offer.record.model_id, app_config());

/** WebLLM keeps what it fetched by address for ever. When the folder has changed since, what it kept is thrown away. */
async function forget_if_changed() {
    const key = `nibble ${offer.base}`;
    const before = localStorage.getItem(key);
    if (before !== null && before !== offer.fingerprint) await forget();
    localStorage.setItem(key, offer.fingerprint);
}

async function load_model() {
    at('trouble').hidden = true;
    at('progress').value = 0;
    last_words = [];
    enter('loading', 'Starting WebLLM …');
    try {
        await unless_given_up(forget_if_changed());
        worker = new Worker(new URL('worker.js', import.meta.url), { type: 'module' });
        worker.addEventListener('error', (event) => engine_failed(new Error(event.message || 'the worker did not start')));
        worker.addEventListener('message', hear);
        engine = new WebWorkerMLCEngine(worker, { appConfig: app_config(), initProgressCallback: show_progress });
        await unless_given_up(engine.reload(offer.record.model_id));
        enter('ready', 'The model is loaded.');
        at('message').focus();
    } catch (error) {
        end_engine();
        enter('found', was_stopped(error) ? 'Stopped. What has arrived is kept.' : '');
        if (!was_stopped(error)) show_trouble(error);
    }
}

function show_progress({ progress, text }) {
    if (state !== 'loading') return;
    if (Number.isFinite(progress)) at('progress').value = Math.min(1, Math.max(0, progress));
    at('status').textContent = text.replace(/ It can take a while.*/, '');
}

function add_message(who, text) {
    const box = document.createElement('div');
    box.className = who;
    box.dataset.who = who === 'user' ? 'You' : 'Model';
    box.textContent = text;
    at('talk').append(box);
    box.scrollIntoView({ block: 'nearest' });
    return box;
}

async function answer() {
    const text = at('message').value.trim();
    if (state !== 'ready' || text === '') return;
    at('trouble').hidden = true;
    at('message').value = '';
    add_message('user', text);
    messages.push({ role: 'user', content: text });
    const box = add_message('assistant', '');
    box.setAttribute('aria-busy', 'true'); // read out when it is whole
    const reply = { role: 'assistant', content: '' };
    const end = { reason: null, usage: null };
    stopping = false;
    enter('answering', 'The model reads …');
    try {
        await unless_given_up(read_answer(reply, box, end));
        if (reply.content === '') take_back(text);
        else messages.push(reply);
        const speed = end.usage?.extra?.decode_tokens_per_s;
        const count = end.usage ? `${end.usage.completion_tokens} tokens${Number.isFinite(speed) ? `, ${speed.toFixed(1)} a second` : ''}` : '';
        const why = { abort: 'Stopped', length: 'The context is full' }[end.reason] ?? 'Done';
        enter('ready', `${why}${count && `: ${count}`}.`);
        at('message').focus();
    } catch (error) {
        take_back(text);
        if (/ContextWindowSizeExceeded/.test(String(error))) {
            enter('ready', '');
        } else {
            // The state of the engine is unknown now: it is loaded again, from what is stored.
            end_engine();
            enter('found', was_stopped(error) ? 'Stopped. Load the model again to go on.' : 'Load the model again to go on.');
        }
        if (!was_stopped(error)) show_trouble(error);
    } finally {
        stopping = false;
        box.removeAttribute('aria-busy');
    }
}

/** What got no answer is not said yet. */
function take_back(text) {
    messages.pop();
    at('message').value = text;
}

async function read_answer(reply, box, end) {
    const pieces = await engine.chat.completions.create({ messages, stream: true, stream_options: { include_usage: true } });
    for await (const piece of pieces) {
        const choice = piece.choices[0];
        if (piece.usage) end.usage = piece.usage;
        if (choice?.finish_reason) end.reason = choice.finish_reason;
        if (!choice?.delta?.content || !box.isConnected) continue;
        reply.content += choice.delta.content;
        box.textContent = reply.content;
        if (!stopping) at('status').textContent = 'The model writes …';
    }
}

function start_over() {
    messages = [];
    at('talk').replaceChildren();
}

async function forget_files() {
    end_engine();
    enter('found', 'Forgetting …');
    try {
        await forget();
        localStorage.removeItem(`nibble ${offer.base}`);
        enter('found', 'The stored files are gone.');
    } catch (error) {
        show_trouble(error);
    }
}

at('open').addEventListener('submit', (event) => {
    event.preventDefault();
    open_folder();
});
at('say').addEventListener('submit', (event) => {
    event.preventDefault();
    answer();
});
at('message').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    answer();
});
document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') stop();
});
at('load').addEventListener('click', load_model);
at('stop').addEventListener('click', stop);
at('forget').addEventListener('click', forget_files);
at('new_chat').addEventListener('click', () => {
    start_over();
    enter(state);
    at('message').focus();
});

const given = new URLSearchParams(location.search);
at('version').textContent = version;
at('folder').value = given.get('folder') ?? location.origin;
at('library').value = given.get('lib') ?? '';
open_folder();
