#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The page's parts that need no browser: what is said about errors, and where WebLLM looks for files.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { files_url, index_name } from '../../examples/web/folder.js';
import { explain, Trouble } from '../../examples/web/trouble.js';

// As WebLLM 0.2.79 and 0.2.86, their runtime and Chromium word them.
const sayings = [
    ['ShaderF16SupportError: This model requires WebGPU extension shader-f16, which is not enabled in this browser.', /16-bit floats/, /q4f32_1/],
    ['WebGPUNotAvailableError: WebGPU is not supported in your current environment, but it is necessary to run the WebLLM engine.', /no WebGPU/, /browser/],
    ["Error: Unable to find a compatible GPU. This issue might be because your computer doesn't have a GPU", /no WebGPU/, /browser/],
    ['Error: Cannot initialize runtime because of requested maxBufferSize exceeds limit. requested=1024MB, limit=256MB.', /smaller buffers/, /another/],
    ['DeviceLostError: The WebGPU device was lost while loading the model. This issue often occurs due to running out of memory (OOM).', /out of memory/, /smaller context/],
    ['GPUOutOfMemoryError: Allocation of buffer failed', /out of memory/, /fewer parameters/],
    ['GPUDeviceLost: device was lost', /out of memory/, /smaller/],
    ['RangeError: Array buffer allocation failed', /out of memory/, /smaller/],
    ['LinkError: WebAssembly.instantiate(): Import #4 "env" "TVMFFIWasmSafeCall": function import requires a callable', /version of WebLLM/, /v0_2_48/],
    ['CompileError: WebAssembly.instantiate(): expected magic word 00 61 73 6d, found 3c 21 64 6f @+0', /no WebAssembly/, /model_lib/],
    ['Error: Cannot find global function vm.builtin.param_array_from_cache', /does not belong to these weights/, /nibble check/],
    ['WindowSizeConfigurationError: Only one of context_window_size and sliding_window_size can be positive. Got: context_window_size: 4096', /refuses/, /gen-config/],
    ['ContextWindowSizeExceededError: Prompt tokens exceed context window size: number of prompt tokens: 5000', /no longer fits/, /New chat/],
    ['QuotaExceededError: Quota exceeded.', /no room/, /Forget/],
    ['IntegrityError: Integrity check failed for http://h/mlc-chat-config.json', /hash/, /anew/],
    ["TypeError: Failed to execute 'add' on 'Cache': Request failed", /could not be fetched/, /nibble doctor/],
    ['NetworkError: Failed to execute \'add\' on \'Cache\': Cache.add() encountered a network error', /could not be fetched/, /server still runs/],
    ['GPUValidationError: Buffer usages must not be 0', /refused/, /nibble check/],
    ['TypeError: x is not a function', /stopped with an error/, /nibble doctor/],
];

for (const [said, what, remedy] of sayings) {
    test(`explains: ${said.slice(0, 60)}`, () => {
        const trouble = explain(said);
        assert.match(trouble.message, what);
        assert.match(trouble.remedy, remedy);
        assert.equal(trouble.cause, said);
    });
}

// [what is thrown, what was on the console, what is wrong]
const with_console = [
    ['[object Object]', '[FATAL] ndarray_cache_support.cc:333: ValueError: Cannot find parameter in cache: model.norm.weight', /does not belong to these weights/],
    ['RuntimeError: Aborted(). Build with -sASSERTIONS for more info.', "thread '<unnamed>' panicked at src/lib.rs:26:50:", /tokenizer could not be read/],
    ['RuntimeError: unreachable', '', /does not belong to these weights, or not to this version/],
    ['[object Object]', '', /broke off without saying why/],
    ['[object Object]', 'something else', /broke off without saying why/],
    ['LinkError: Import #4', "thread '<unnamed>' panicked at src/lib.rs:26:50:", /version of WebLLM/],
];
for (const [thrown, said, what] of with_console) {
    test(`explains: ${thrown} after ${said.slice(0, 40) || 'nothing'}`, () => {
        const trouble = explain(thrown, said);
        assert.match(trouble.message, what);
        assert.equal(trouble.cause, said ? `${thrown}\n${said}` : thrown);
    });
}

test('an Error is explained by its name and its message', () => {
    const error = Object.assign(new Error('Import #1 is missing'), { name: 'LinkError' });
    assert.equal(explain(error).cause, 'LinkError: Import #1 is missing');
});

test('what is explained already stays as it is', () => {
    const trouble = new Trouble('a', 'b');
    assert.equal(explain(trouble), trouble);
});

test('files lie where WebLLM looks for them', () => {
    assert.equal(files_url('http://127.0.0.1:8000'), 'http://127.0.0.1:8000/resolve/main/');
    assert.equal(files_url('https://h/me/model/'), 'https://h/me/model/resolve/main/');
    assert.equal(files_url('https://h/me/model/resolve/v2'), 'https://h/me/model/resolve/v2/');
});

test('the index goes with the version', () => {
    assert.equal(index_name('0.2.79'), 'ndarray-cache.json');
    assert.equal(index_name('0.2.80'), 'tensor-cache.json');
    assert.equal(index_name('0.3.0'), 'tensor-cache.json');
    assert.equal(index_name('1.0.0'), 'tensor-cache.json');
});
