#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Puts the page together: node build.mjs [OUT] [--webllm FOLDER]. OUT (dist) gets the page's own files and WebLLM, which is one ES module
// without imports: nothing has to be bundled, and nothing is fetched from elsewhere when the page runs.
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

export const page_files = ['index.html', 'main.js', 'folder.js', 'trouble.js', 'watch.js', 'worker.js'];
const here = dirname(fileURLToPath(import.meta.url));

/** Writes the page to `out` with the WebLLM of an unpacked npm package; gives that WebLLM's version. */
export function build(out, webllm) {
    const library = join(webllm, 'lib', 'index.js');
    if (!existsSync(library)) throw new Error(`there is no WebLLM in ${webllm}: run "npm install" in ${here}, or name a folder with --webllm`);
    const { version } = JSON.parse(readFileSync(join(webllm, 'package.json'), 'utf8'));
    mkdirSync(out, { recursive: true });
    for (const file of page_files) copyFileSync(join(here, file), join(out, file));
    copyFileSync(library, join(out, 'web-llm.js'));
    writeFileSync(join(out, 'version.js'), `export const version = ${JSON.stringify(version)};\n`);
    return version;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    try {
        const { values, positionals } = parseArgs({ options: { webllm: { type: 'string' } }, allowPositionals: true });
        const out = positionals[0] ?? join(here, 'dist');
        const version = build(out, values.webllm ?? join(here, 'node_modules', '@mlc-ai', 'web-llm'));
        console.log(`${out} has the page, with WebLLM ${version}`);
    } catch (error) {
        console.error(`build: ${error.message}`);
        process.exit(1);
    }
}
