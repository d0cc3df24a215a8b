// SPDX-License-Identifier: Apache-2.0
// node plan_test.mjs: plan.mjs makes the plans that gpu/manifest.hpp makes.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { bufferBytes, giveParameters, plan } from './plan.mjs';

const { manifests, plans } = JSON.parse(readFileSync(new URL('../data/gpu/plans.json', import.meta.url)));
for (const { name, manifest, change, sizes, limits, dispatches, error, says } of plans) {
  const m = { ...manifests[manifest], ...change };
  if (dispatches) {
    const made = plan(m, sizes, limits).map(({ bindings, parameters, grid }) => ({ bindings: bindings.map((b) => [b.offset, b.bytes]), parameters, grid }));
    assert.deepEqual(made, dispatches, name);
  } else {
    assert.throws(() => plan(m, sizes, limits), (e) => e.code === error && e.message.includes(says), name);
  }
}

const m = { ...manifests.add, parameters: [...manifests.add.parameters, { name: 'past', type: 'i32' }] };
const made = plan(m, { n: 1000 });
giveParameters(m, { eps: 0.1, past: -2 }, made);
assert.deepEqual(made[0].parameters, [1000, 0x3dcccccd, 0xfffffffe]);
assert.deepEqual(bufferBytes(m, made), [4000, 2000]);
for (const [values, says] of [
  [{ eps: 0 }, "takes the parameter 'past' from its host"],
  [{ eps: 0, past: 0.5 }, "'past' as i32, which cannot be 0.5"],
  [{ eps: 1e39, past: 0 }, "'eps' as f32"],
  [{ eps: 0, past: 0, n: 1 }, "takes no parameter 'n'"],
]) {
  assert.throws(() => giveParameters(m, values, made), (e) => e.message.includes(says));
}
console.log(`plan.mjs: ${plans.length} plans are as they should be`);
