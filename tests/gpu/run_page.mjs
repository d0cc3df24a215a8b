// SPDX-License-Identifier: Apache-2.0
// The jobs of run_wgsl.mjs in a page of headless Chromium, whose software device has no f16. Bytes travel as base64.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

export async function runInPage(executablePath, jobs, validateOnly, skip) {
  let playwright;
  try {
    playwright = await import('playwright-core');
  } catch (e) {
    skip(`npm's package playwright-core is not installed in tests/gpu (cmake/setup.sh --dev does it): ${e.message}`);
  }
  // WebGPU is for secure pages, and localhost is one.
  const files = { '/plan.mjs': 'text/javascript', '/run_jobs.mjs': 'text/javascript' };
  const server = createServer((request, response) => {
    const type = files[request.url];
    response.writeHead(request.url === '/' || type ? 200 : 404, { 'content-type': type ?? 'text/html' });
    response.end(type ? readFileSync(new URL(`.${request.url}`, import.meta.url)) : '<!doctype html><title>jobs</title>');
  });
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
  let browser = null;
  try {
    const args = ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
    try {
      browser = await playwright.chromium.launch({ executablePath, args });
    } catch (e) {
      skip(`Chromium does not start: ${e.message.split('\n')[0]}`);
    }
    const page = await browser.newPage();
    await page.goto(`http://localhost:${server.address().port}/`);
    const sent = jobs.map((job) => ({
      ...job,
      inputs: Object.fromEntries(Object.entries(job.inputs).map(([name, content]) => [name, Buffer.from(content).toString('base64')])),
    }));
    const ran = await page.evaluate(runAll, { sent, validateOnly });
    if (!ran) skip('Chromium finds no WebGPU adapter');
    for (const result of ran.results) {
      result.outputs = Object.fromEntries(Object.entries(result.outputs ?? {}).map(([name, text]) => [name, Buffer.from(text, 'base64')]));
    }
    return ran;
  } finally {
    await browser?.close();
    server.close();
  }
}

/* In the page. */
async function runAll({ sent, validateOnly }) {
  const { openDevice, runJob } = await import('/run_jobs.mjs');
  const opened = navigator.gpu ? await openDevice(navigator.gpu) : null;
  if (!opened) return null;
  const decode = async (text) => new Uint8Array(await (await fetch(`data:application/octet-stream;base64,${text}`)).arrayBuffer());
  const encode = (content) =>
    new Promise((done) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result.slice(reader.result.indexOf(',') + 1));
      reader.readAsDataURL(new Blob([content]));
    });
  const results = [];
  for (const job of sent) {
    const inputs = {};
    for (const [name, text] of Object.entries(job.inputs)) inputs[name] = await decode(text);
    const result = await runJob(opened, { ...job, inputs }, validateOnly);
    for (const [name, content] of Object.entries(result.outputs ?? {})) result.outputs[name] = await encode(content);
    results.push(result);
  }
  return { device: opened.about, results };
}
