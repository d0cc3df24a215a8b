// SPDX-License-Identifier: Apache-2.0
// WebLLM in a thread of its own: the page stays usable, and ending the thread ends a download and frees the GPU's memory at once.
import './watch.js';
import { WebWorkerMLCEngineHandler } from './web-llm.js';

const handler = new WebWorkerMLCEngineHandler();
onmessage = (message) => handler.onmessage(message);
