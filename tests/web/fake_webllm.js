// SPDX-License-Identifier: Apache-2.0
// Stands in for WebLLM's module where no model library is at hand: the same exports, the same order of fetches, made-up answers. The
// "model library" is a JSON file that says how to behave:
//   {"say": "a text", "pause_ms": 20}   answers with these words, one by one        {"throw": "LinkError: …"}   loading fails with that
//   {"hang": true}                      loading never ends                          {"gpu_error": true}         answering does what a GPU refuses
//   {"mutter": "…"}                     says that on the console, as an error, when loading
//   {"deaf": true}                      an answer does not end when interrupted     {"answer_throws": "…"}      answering fails with that

const write_error = console.error; // found when the module starts, as WebLLM does
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function fetched(url) {
    const answer = await fetch(url);
    if (!answer.ok) throw new TypeError(`Failed to fetch ${url}`);
    return answer;
}

/** In the worker. */
export class WebWorkerMLCEngineHandler {
    async onmessage({ data: { kind, uuid, content } }) {
        try {
            postMessage({ kind: 'return', uuid, content: await this[kind](content, uuid) });
        } catch (error) {
            postMessage({ kind: 'throw', uuid, content: String(error) });
        }
    }

    async reload({ record }) {
        const base = `${record.model}/resolve/main/`;
        await fetched(`${base}mlc-chat-config.json`);
        this.library = await (await fetched(record.model_lib)).json();
        if (this.library.mutter) write_error(this.library.mutter);
        if (this.library.throw) throw this.library.throw;
        await fetched(`${base}tokenizer.json`);
        const { records } = await (await fetched(`${base}tensor-cache.json`)).json();
        for (const [i, shard] of records.entries()) {
            await (await fetched(base + shard.dataPath)).arrayBuffer();
            postMessage({ kind: 'progress', content: { progress: (i + 1) / records.length, text: `Fetching param cache[${i + 1}/${records.length}]: it can. It can take a while …` } });
            await pause(this.library.pause_ms ?? 5);
            if (this.library.hang) await new Promise(() => {});
        }
    }

    async answer({ messages }, uuid) {
        this.interrupted = false;
        if (this.library.answer_throws) throw this.library.answer_throws;
        if (this.library.gpu_error) {
            const device = await (await navigator.gpu.requestAdapter()).requestDevice();
            device.createBuffer({ size: 16, usage: 0 });
            device.queue.submit([]); // errors come with what is done next
            await pause(60000);
        }
        const said = `(${messages.length}) ${this.library.say ?? 'so be it'}`;
        let n = 0;
        for (const word of said.match(/\S+\s*/g)) {
            if (this.interrupted && !this.library.deaf) break;
            postMessage({ kind: 'piece', uuid, content: { choices: [{ delta: { content: word }, finish_reason: null }] } });
            n += 1;
            await pause(this.library.pause_ms ?? 5);
        }
        postMessage({ kind: 'piece', uuid, content: { choices: [{ delta: {}, finish_reason: this.interrupted ? 'abort' : 'stop' }] } });
        postMessage({ kind: 'piece', uuid, content: { choices: [], usage: { completion_tokens: n, extra: { decode_tokens_per_s: 12.34 } } } });
    }

    async interrupt() {
        this.interrupted = true;
    }
}

/** In the page. */
export class WebWorkerMLCEngine {
    constructor(worker, { appConfig, initProgressCallback }) {
        this.app_config = appConfig;
        this.waiting = new Map();
        this.worker = worker;
        worker.onmessage = ({ data: { kind, uuid, content } }) => {
            if (kind === 'progress') return initProgressCallback(content);
            const { resolve, reject, piece } = this.waiting.get(uuid);
            return { return: resolve, throw: reject, piece }[kind](content);
        };
        this.chat = { completions: { create: async (request) => this.pieces(request) } };
    }

    call(kind, content, piece) {
        const uuid = crypto.randomUUID();
        return new Promise((resolve, reject) => {
            this.waiting.set(uuid, { resolve, reject, piece });
            this.worker.postMessage({ kind, uuid, content });
        });
    }

    reload(model_id) {
        return this.call('reload', { record: this.app_config.model_list.find((record) => record.model_id === model_id) });
    }

    interruptGenerate() {
        this.call('interrupt');
    }

    async *pieces(request) {
        const arrived = [];
        let wake = () => {};
        let over = false;
        const all = this.call('answer', { messages: request.messages }, (piece) => {
            arrived.push(piece);
            wake();
        }).finally(() => {
            over = true;
            wake();
        });
        all.catch(() => {});
        while (!over || arrived.length > 0) {
            if (arrived.length > 0) yield arrived.shift();
            else await new Promise((done) => { wake = done; });
        }
        await all;
    }
}

export async function deleteModelAllInfoInCache(model_id, app_config) {
    (globalThis.forgotten ??= []).push([model_id, app_config.model_list[0].model]);
}
