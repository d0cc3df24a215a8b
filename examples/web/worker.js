// SPDX-License-Identifier: Apache-2.0
// WebLLM in a thread of its own: the page stays usable, and ending the thread ends a download and frees the GPU's memory at once.
import { WebWorkerMLCEngineHandler } from './web-llm.js';

// After an error of the GPU, WebLLM goes on with logits that are all 0. The page is told instead.
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

const handler = new WebWorkerMLCEngineHandler();
onmessage = (message) => handler.onmessage(message);
