// SPDX-License-Identifier: Apache-2.0
// Tells the page what WebLLM leaves unsaid. Imported before WebLLM, which keeps the functions that it finds when it starts.

// After an error of the GPU, WebLLM goes on with logits that are all 0.
if (globalThis.GPUAdapter) {
    const request_device = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (descriptor) {
        const device = await request_device.call(this, descriptor);
        device.addEventListener('uncapturederror', ({ error }) => postMessage({ gpu_error: `${error.constructor.name}: ${error.message}` }));
        device.lost.then(({ reason, message }) => {
            if (reason !== 'destroyed') postMessage({ gpu_error: `GPUDeviceLost: ${message}` });
        });
        return device;
    };
}

// Its runtime says on the console why it ends, and then throws an object that says nothing.
const write_error = console.error;
console.error = (...words) => {
    write_error.apply(console, words);
    postMessage({ said: words.join(' ') });
};
