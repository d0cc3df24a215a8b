// SPDX-License-Identifier: Apache-2.0
// What gpu/manifest.hpp computes, for hosts in JavaScript: the dispatches of a call from a manifest's JSON. tests/data/gpu/plans.json
// holds both to the same plans. Runs in Node and in browsers. Whatever is refused is a RefusedError with the C++ library's sentence.

export class RefusedError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code; // 'missing', 'refused' or 'mismatch'
  }
}

const mostU64 = 2n ** 64n - 1n;
const mostU32 = 2n ** 32n - 1n;
const mostRanges = 65536n;

/** What every device allows. */
export const defaultLimits = {
  max_binding_bytes: 128 << 20,
  max_workgroups: 65535,
  max_workgroup_bytes: 16384,
  max_invocations: 256,
  max_storage_buffers: 8,
  binding_alignment: 256,
  max_workgroup_size: [256, 256, 64],
};

const min = (a, b) => (a < b ? a : b);
const max = (a, b) => (a > b ? a : b);
const gcd = (a, b) => (b === 0n ? a : gcd(b, a % b));
const lcm = (a, b) => (a / gcd(a, b)) * b;
const parts = (n, limit) => (n - 1n) / limit + 1n;
const wholeWords = (n) => ((n + 3n) / 4n) * 4n;

const operations = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  ceil_div: (a, b) => (b === 0n ? null : (a + b - 1n) / b),
  least: min,
  greatest: max,
};

/** A formula's value as a BigInt; null if it has none. */
function evaluate(formula, sizes) {
  if (typeof formula === 'number') return BigInt(formula);
  if (typeof formula === 'string') return formula in sizes ? sizes[formula] : null;
  const [name, ...terms] = formula;
  const [a, b] = terms.map((term) => evaluate(term, sizes));
  if (a === null || b === null) return null;
  const value = operations[name](a, b);
  return value === null || value < 0n || value > mostU64 ? null : value;
}

function missingName(formula, sizes) {
  if (typeof formula === 'string') return formula in sizes ? null : formula;
  if (typeof formula === 'number') return null;
  return missingName(formula[1], sizes) ?? missingName(formula[2], sizes);
}

function text(formula) {
  const term = (f) => {
    if (!Array.isArray(f)) return [String(f), 3];
    const [name, left, right] = f;
    const [a, b] = [term(left), term(right)];
    const within = ([t, binds], least) => (binds < least ? `(${t})` : t);
    if (!['+', '-', '*'].includes(name)) return [`${name}(${a[0]}, ${b[0]})`, 3];
    const binds = name === '*' ? 2 : 1;
    return [`${within(a, binds)} ${name} ${within(b, name === '-' ? 2 : binds)}`, binds];
  };
  return term(formula)[0];
}

const scalarBytes = (type) => (type === 'f16' ? 2n : 4n);
const elementBytes = (binding) => scalarBytes(binding.type) * BigInt(binding.width);

class Planner {
  constructor(manifest, sizes, limits) {
    this.m = manifest;
    this.sizes = Object.fromEntries(Object.entries(sizes).map(([name, value]) => [name, BigInt(value)]));
    this.limits = { ...defaultLimits, ...limits };
    this.alignment = lcm(max(BigInt(this.limits.binding_alignment), 1n), 4n);
    this.maxBinding = BigInt(this.limits.max_binding_bytes);
  }

  get kernel() {
    return `kernel '${this.m.kernel}'${this.m.codec ? ` of ${this.m.codec}` : ''} `;
  }
  fail(code, rule) {
    throw new RefusedError(code, this.kernel + rule);
  }
  refuse(rule) {
    this.fail('refused', rule);
  }
  tooLarge(binding, bytes, why) {
    this.refuse(`would bind ${bytes} bytes as buffer '${binding.name}', the device allows ${this.maxBinding}: ${why}`);
  }

  withRows(first, rows) {
    return { ...this.sizes, first_row: first, rows };
  }

  value(formula, sizes, what) {
    const v = evaluate(formula, sizes);
    if (v !== null) return v;
    const name = missingName(formula, sizes);
    if (name !== null) this.fail('missing', `computes ${what} from the size '${name}', which is not given`);
    const given = Object.entries(sizes).map(([n, s]) => `${n} = ${s}`);
    this.refuse(`computes ${what} as ${text(formula)}, which has no value for ${given.join(', ')}`);
  }
  bytes(binding, sizes) {
    const n = this.value(['*', binding.length, Number(elementBytes(binding))], sizes, `the bytes of buffer '${binding.name}'`);
    if (n > mostU64 - 3n) this.refuse(`overflows at buffer '${binding.name}'`);
    return n;
  }
  fits(binding, bytes) {
    return wholeWords(bytes) <= this.maxBinding && bytes / elementBytes(binding) <= mostU32;
  }

  dispatches() {
    this.checkSizes();
    this.checkWorkgroup();
    if (!this.m.rows) return this.complete([{ sizes: this.sizes }]);
    const all = this.sizes[this.m.rows];
    if (all === 0n) return [];
    const step = this.rowsOfARange(all);
    const n = parts(all, step);
    if (n > mostRanges) this.refuse(`is cut into ${n} dispatches, ${mostRanges} are the most`);
    const ranges = [];
    for (let first = 0n; first < all; first += step) ranges.push({ sizes: this.withRows(first, min(step, all - first)) });
    return this.complete(ranges);
  }

  checkSizes() {
    for (const name of [...this.m.sizes, ...(this.m.rows ? [this.m.rows] : [])]) {
      if (!(name in this.sizes)) this.fail('missing', `needs the size '${name}', which is not given`);
    }
    for (const [name, number] of Object.entries(this.m.fixed ?? {})) {
      const given = this.sizes[name] ?? BigInt(number);
      if (given !== BigInt(number)) this.refuse(`was made for ${number} as size '${name}', and ${given} is given`);
    }
    for (const [name, number] of Object.entries(this.m.multiples ?? {})) {
      const given = this.sizes[name] ?? 0n;
      if (given % BigInt(number) !== 0n) this.refuse(`was made for multiples of ${number} as size '${name}', and ${given} is given`);
    }
    if (!this.m.rows) return;
    for (const name of ['first_row', 'rows']) {
      if (name in this.sizes) this.refuse(`is given the size '${name}', which is computed`);
    }
  }

  checkWorkgroup() {
    const { workgroup, workgroup_bytes, bindings } = this.m;
    const limits = this.limits;
    const sides = `has workgroups of ${workgroup.join(' x ')} invocations, the device allows `;
    if (workgroup[0] * workgroup[1] * workgroup[2] > limits.max_invocations) this.refuse(sides + limits.max_invocations);
    workgroup.forEach((side, i) => {
      if (side > limits.max_workgroup_size[i]) this.refuse(`${sides}${limits.max_workgroup_size[i]} in ${'xyz'[i]}`);
    });
    if (workgroup_bytes > limits.max_workgroup_bytes) {
      this.refuse(`needs ${workgroup_bytes} bytes of workgroup memory, the device has ${limits.max_workgroup_bytes}`);
    }
    if (bindings.length > limits.max_storage_buffers) {
      this.refuse(`binds ${bindings.length} buffers, the device allows ${limits.max_storage_buffers}`);
    }
  }

  rowsOfARange(all) {
    const cut = this.m.bindings.filter((b) => b.by_rows);
    if (cut.map((b) => this.fits(b, this.bytes(b, this.withRows(0n, all)))).every(Boolean)) return all;
    const granule = max(BigInt(this.m.row_granule), 1n);
    let granules = 1n;
    for (const b of cut) granules = lcm(granules, this.alignment / gcd(this.alignment, this.bytes(b, this.withRows(0n, granule))));
    const step = granule * granules;
    let most = mostU64;
    for (const b of cut) {
      const n = this.bytes(b, this.withRows(0n, step));
      if (!this.fits(b, n)) this.tooLarge(b, n, `${step} rows are the least that can be bound with aligned offsets`);
      if (n !== 0n) most = min(most, min(this.maxBinding / n, mostU32 / (n / elementBytes(b))));
    }
    const steps = parts(all, step);
    return parts(steps, parts(steps, most)) * step;
  }

  complete(ranges) {
    const list = [];
    for (const { sizes } of ranges) {
      const workgroups = this.value(this.m.workgroups, sizes, 'its workgroups');
      if (workgroups === 0n) continue;
      const grid = this.fold(workgroups);
      list.push({ sizes, bindings: this.m.bindings.map((b) => this.range(b, sizes)), parameters: this.parameters(sizes), grid });
    }
    return list;
  }

  range(binding, sizes) {
    const n = this.bytes(binding, sizes);
    if (n === 0n) this.refuse(`would bind buffer '${binding.name}' without an element, which no device allows`);
    if (!this.fits(binding, n)) this.tooLarge(binding, n, 'this buffer cannot be cut');
    let offset = 0n;
    if (this.m.rows && binding.by_rows && sizes.first_row !== 0n) {
      offset = this.bytes(binding, this.withRows(0n, sizes.first_row));
      const both = this.bytes(binding, this.withRows(0n, sizes.first_row + sizes.rows));
      if (offset % this.alignment !== 0n || both - offset !== n) {
        this.refuse(`has buffer '${binding.name}', which cannot be cut: its length ${text(binding.length)} is not proportional to rows`);
      }
    }
    return { offset: Number(offset), bytes: Number(wholeWords(n)) };
  }

  parameters(sizes) {
    return this.m.parameters.map((p) => {
      if (p.value === undefined) return 0;
      const v = this.value(p.value, sizes, `parameter '${p.name}'`);
      if (p.type === 'f32') return bitsOfFloat(Number(v));
      if (v > (p.type === 'i32' ? mostU32 / 2n : mostU32)) this.refuse(`has parameter '${p.name}' of 32 bits, which cannot be ${v}`);
      return Number(v);
    });
  }

  fold(workgroups) {
    const most = min(BigInt(this.limits.max_workgroups), mostU32);
    const tooMany = () => this.refuse(`has ${workgroups} workgroups, more than a grid of 32 bit with sides up to ${most} holds`);
    if (workgroups > mostU32 || most === 0n) tooMany();
    const z = parts(parts(workgroups, most), most);
    if (z > most) tooMany();
    const layer = parts(workgroups, z);
    const y = parts(layer, most);
    const x = parts(layer, y);
    if (x * y * z > mostU32) tooMany();
    return [Number(x), Number(y), Number(z)];
  }
}

function bitsOfFloat(value) {
  return new Uint32Array(new Float32Array([value]).buffer)[0];
}

/** The dispatches of a call: [{sizes, bindings: [{offset, bytes}], parameters: [bits], grid: [x, y, z]}]. */
export function plan(manifest, sizes, limits = {}) {
  return new Planner(manifest, sizes, limits).dispatches();
}

/** Writes the parameters that the host gives, {name: number}, into the dispatches of a plan. */
export function giveParameters(manifest, values, dispatches) {
  const fail = (code, rule) => {
    throw new RefusedError(code, `kernel '${manifest.kernel}' ${rule}`);
  };
  const taken = new Set();
  manifest.parameters.forEach((p, i) => {
    if (p.value !== undefined) return;
    if (!(p.name in values)) fail('missing', `takes the parameter '${p.name}' from its host, which does not give it`);
    taken.add(p.name);
    const value = values[p.name];
    const least = p.type === 'i32' ? -(2 ** 31) : 0;
    const most = p.type === 'i32' ? 2 ** 31 - 1 : p.type === 'bool' ? 1 : 2 ** 32 - 1;
    const ok = p.type === 'f32' ? !(Number.isFinite(value) && Math.abs(value) > 3.4028234663852886e38) : Number.isInteger(value) && value >= least && value <= most;
    if (!ok) fail('mismatch', `takes the parameter '${p.name}' as ${p.type}, which cannot be ${value}`);
    for (const d of dispatches) d.parameters[i] = p.type === 'f32' ? bitsOfFloat(value) : value >>> 0;
  });
  for (const name of Object.keys(values)) {
    if (!taken.has(name)) fail('mismatch', `takes no parameter '${name}' from its host`);
  }
}

/** The bytes of whole buffers that a plan binds ranges of. */
export function bufferBytes(manifest, dispatches) {
  return manifest.bindings.map((_, i) => dispatches.reduce((end, d) => Math.max(end, d.bindings[i].offset + d.bindings[i].bytes), 0));
}
