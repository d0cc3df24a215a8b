// SPDX-License-Identifier: Apache-2.0
// node run_wgsl.mjs [--validate-only] [--null] [--chromium] JOBS.json: runs WGSL by its manifests in Dawn (npm `webgpu`), or in headless
// Chromium. JOBS.json is a list of
//   {"name": ..., "manifest": {...} or a path, "wgsl": path, "sizes": {"n": 4}, "host": {"eps": 1e-6}, "constants": {...},
//    "limits": {...}, "inputs": {"x": path}, "outputs": {"y": path}}
// with paths relative to its folder. Prints {"device", "jobs": [{"name", "ok", "error" or "lacks", "messages", ...}]}; --validate-only
// compiles shaders and pipelines without running them, which needs no sizes, and with --null no driver. Ends with 0 if every job is ok or
// lacks only a feature of the device, with 1 if one failed, with 77 and the reason where there is no WebGPU.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

const options = process.argv.slice(2).filter((a) => a.startsWith('--'));
const [file] = process.argv.slice(2).filter((a) => !a.startsWith('--'));
if (!file || options.some((o) => !['--validate-only', '--null', '--chromium'].includes(o))) {
  console.error('usage: run_wgsl.mjs [--validate-only] [--null] [--chromium] JOBS.json');
  process.exit(64);
}
const validateOnly = options.includes('--validate-only');

function skip(reason) {
  console.error(`wgsl: skipped, ${reason}`);
  process.exit(77);
}

const at = (name) => path.resolve(path.dirname(file), name);
const bytes = (name) => new Uint8Array(readFileSync(at(name)));
const written = JSON.parse(readFileSync(file, 'utf8'));
const jobs = written.map((job, i) => ({
  ...job,
  name: job.name ?? `job ${i}`,
  manifest: typeof job.manifest === 'string' ? JSON.parse(readFileSync(at(job.manifest), 'utf8')) : job.manifest,
  wgsl: readFileSync(at(job.wgsl), 'utf8'),
  inputs: validateOnly ? {} : Object.fromEntries(Object.entries(job.inputs ?? {}).map(([name, from]) => [name, bytes(from)])),
  outputs: Object.keys(job.outputs ?? {}),
}));

async function runInNode() {
  const { openDevice, runJob } = await import('./run_jobs.mjs');
  let webgpu;
  try {
    webgpu = await import('webgpu');
  } catch (e) {
    skip(`npm's package webgpu is not installed in tests/gpu (cmake/setup.sh --dev does it): ${e.message}`);
  }
  Object.assign(globalThis, webgpu.globals);
  globalThis.heldGpu = webgpu.create(options.includes('--null') ? ['backend=null'] : []); // collected, it takes the devices along
  let opened = null;
  try {
    opened = await openDevice(globalThis.heldGpu);
  } catch (e) {
    skip(`Dawn opens no device: ${e.message}`);
  }
  if (!opened) skip('Dawn finds no adapter (it needs Mesa 25 or a GPU)');
  const results = [];
  for (const job of jobs) results.push(await runJob(opened, job, validateOnly));
  return { device: opened.about, results };
}

async function runInChromium() {
  const executable = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((f) => f && existsSync(f));
  if (!executable) skip('there is no Chromium (CHROMIUM may name one)');
  const { runInPage } = await import('./run_page.mjs');
  return runInPage(executable, jobs, validateOnly, skip);
}

const { device, results } = await (options.includes('--chromium') ? runInChromium() : runInNode());
let failed = 0;
const report = results.map(({ outputs = {}, ...result }, i) => {
  for (const [name, content] of Object.entries(outputs)) writeFileSync(at(written[i].outputs[name]), content);
  if (!result.ok && !result.lacks) failed += 1;
  return { name: jobs[i].name, ...result };
});
// Dawn's threads would keep the process.
process.stdout.write(`${JSON.stringify({ device, jobs: report }, null, 1)}\n`, () => process.exit(failed ? 1 : 0));
