// SPDX-License-Identifier: Apache-2.0
// What can go wrong, in words: what it is, and what to do. No access to the page or the network here.

/** An error for people: `message` says what is wrong, `remedy` what to do about it, `cause` (where there is one) what the program said. */
export class Trouble extends Error {
    constructor(message, remedy, cause) {
        super(message, cause === undefined ? undefined : { cause });
        this.name = 'Trouble';
        this.remedy = remedy;
    }
}

const smaller = 'Close other tabs and programs that use the GPU, choose a smaller context, or take a model with fewer parameters or bits.';
const doctor = 'Run "nibble doctor" on the folder: it names what WebLLM will stumble over.';
const context = 'Mostly there is no memory for the context: say a smaller "context_window_size" in the record\'s "overrides". Else the library may not fit: "nibble check FOLDER --lib FILE.wasm" tells.';
const library = 'Run "nibble check FOLDER --lib FILE.wasm": it names each difference. Then take the library for this architecture, these sizes, this quantization and this version of WebLLM.';

// What WebLLM, its runtime and the browser say, the more telling first: [pattern, what is wrong, what to do].
const sayings = [
    [/shader-f16|ShaderF16SupportError/i, 'This GPU, or this browser, has no 16-bit floats in shaders (shader-f16), which the model needs.',
        'Take the model as q4f32_1, or another browser or GPU. In Chrome, chrome://gpu says what the GPU can do.'],
    [/FeatureSupportError/, 'The GPU lacks a feature that the record asks for.', 'See "required_features" in the record, or try another GPU.'],
    [/requested max\w+/, 'The GPU allows smaller buffers than WebLLM asks for.', 'Try another browser or GPU.'],
    [/WebGPUNotAvailable|WebGPUNotFound|Unable to find a compatible GPU|Cannot find WebGPU/, 'This browser offers no WebGPU.',
        'Take a browser with WebGPU (Chrome or Edge 113, Firefox 141, Safari 26, or newer) and switch hardware acceleration on in its settings.'],
    [/DeviceLost|device (was|is) lost|out ?of ?memory|OutOfMemory|allocation failed|Cannot enlarge memory|could not allocate|mapAsync/i,
        'The GPU or the browser ran out of memory.', smaller],
    [/QuotaExceeded/, 'The browser has no room to store the model.', 'Free disk space, or press "Forget stored files" for models that you no longer need.'],
    [/IntegrityError|[Ii]ntegrity (check|verification)/, 'A file is not the one that the record describes: its hash differs.',
        'Press "Forget stored files" and load again. If it stays, make the folder anew: its record and its files do not belong together.'],
    [/ContextWindowSizeExceeded/, 'The conversation no longer fits into the context of the model.', 'Press "New chat", or say less at once.'],
    [/WindowSize|AttentionSink|ConfigValueError|MinValueError|NonNegativeError|InvalidNumberString|DependencyError|^RangeError:.* (minimum|range)/,
        'The configuration says something that WebLLM refuses.', 'Mend mlc-chat-config.json, or make it anew with "nibble gen-config".'],
    [/UnsupportedTokenizerFiles/, 'The configuration names no tokenizer that WebLLM can read.', 'WebLLM needs tokenizer.json: make the folder anew from a checkpoint that has one.'],
    [/LinkError|Import #\d+|[Ff]unction import requires/, 'The model library does not fit this version of WebLLM.',
        'Libraries go with versions: take the library of this version\'s folder (v0_2_48 for 0.2.51 to 0.2.79, for example), or build the page with the WebLLM that the library is for.'],
    [/CompileError|expected magic word|not a WebAssembly/, 'What the record calls the model library is no WebAssembly module.',
        'See where "model_lib" points to: a server may answer with a page of its own instead of the file.'],
    [/panicked at|Model missing/, 'The tokenizer could not be read.',
        'Copy tokenizer.json from the checkpoint again. WebLLM before 0.2.79 reads merges only as "a b": "nibble doctor" on the folder tells.'],
    [/Cannot find parameter|parameter in cache|Cannot find (global )?function|Check failed|TVMError|RuntimeError: (unreachable|memory access)/,
        'The model library does not belong to these weights, or not to this version of WebLLM.', library],
    [/GPUValidationError|GPUInternalError|GPUPipelineError|CreateComputePipeline|ShaderModule/, 'The GPU refused a shader or a buffer: what follows would be random text.', library],
    [/ModelNotFound|MissingModelWasm/, 'The record is not complete.', 'It needs "model", "model_id" and "model_lib".'],
    [/Failed to fetch|NetworkError|network error|'add' on 'Cache'|Cannot fetch|Load failed|ERR_/i, 'A file could not be fetched.',
        `See that the server still runs, and that the network is up; what has arrived is kept. ${doctor}`],
];

function understood(text) {
    return sayings.find(([pattern]) => pattern.test(text));
}

/**
 * Makes a Trouble of whatever was thrown. `said` is what WebLLM wrote on the console, which tells more where its runtime breaks off.
 * The words of the programs stay in `cause`.
 */
export function explain(error, said = '') {
    if (error instanceof Trouble) return error;
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const broke_off = /\[object Object\]|Aborted\(|unreachable/.test(text);
    const found = (broke_off && understood(said)) || understood(text);
    const [, what, remedy] = found ?? (broke_off ? [, 'WebLLM broke off without saying why.', context] : [, 'WebLLM stopped with an error.', doctor]);
    return new Trouble(what, remedy, [text, said].filter(Boolean).join('\n'));
}
