// SPDX-License-Identifier: Apache-2.0
// What the tests in a browser have in common: a Chromium with WebGPU in software, nibble serve, and the page put together.
import { execFileSync, spawn } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const here = dirname(fileURLToPath(import.meta.url));
const page_folder = join(here, '..', '..', 'examples', 'web');

/** Ends the program as ctest's "skipped", with the reason. */
export function skip(reason) {
    console.log(`skipped: ${reason}`);
    process.exit(77);
}

function playwright() {
    const folders = [here, process.cwd()];
    try {
        folders.push(join(execFileSync('npm', ['root', '-g'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim(), '..'));
    } catch {
        // no npm: then there is no global folder either
    }
    for (const folder of folders) {
        try {
            return createRequire(join(folder, 'x.js'))('playwright-core');
        } catch {
            // the next
        }
    }
    return skip('no playwright-core; "npm install" in tests/web, or "npm install -g playwright-core", brings it');
}

/** Chromium with the software adapter that its folder brings. WebGPU is left out for `gpu: false`. */
export async function start_browser({ gpu = true } = {}) {
    const { chromium } = playwright();
    const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
    const executablePath = names.find(existsSync);
    if (!executablePath) skip(`no Chromium (looked for ${names.join(', ')}); "apt-get install chromium" brings it`);
    const with_gpu = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
    return chromium.launch({ executablePath, headless: true, args: ['--no-sandbox', '--disable-dev-shm-usage', ...(gpu ? with_gpu : ['--disable-features=WebGPU'])] });
}

/** `nibble serve` of a folder: {url, stop}. */
export async function serve(nibble, folder) {
    const child = spawn(nibble, ['serve', folder, '--port', '0', '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((done) => child.once('exit', done));
    let text = '';
    for await (const line of createInterface({ input: child.stdout })) {
        text += line;
        try {
            const { url } = JSON.parse(text);
            return { url, stop: () => (child.kill('SIGTERM'), ended) };
        } catch {
            // more lines are to come
        }
    }
    throw new Error(`nibble serve ${folder} ended with ${await ended}`);
}

/** The page with the stand-in for WebLLM, in `out`. */
export async function build_with_fake(out, version) {
    const { page_files } = await import(join(page_folder, 'build.mjs'));
    mkdirSync(out, { recursive: true });
    for (const file of page_files) copyFileSync(join(page_folder, file), join(out, file));
    copyFileSync(join(here, 'fake_webllm.js'), join(out, 'web-llm.js'));
    writeFileSync(join(out, 'version.js'), `export const version = ${JSON.stringify(version)};\n`);
}

/** The page with the WebLLM of an unpacked npm package, in `out`; gives its version. */
export async function build_with_webllm(out, webllm) {
    const { build } = await import(join(page_folder, 'build.mjs'));
    return build(out, webllm);
}
