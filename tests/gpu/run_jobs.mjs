// SPDX-License-Identifier: Apache-2.0
// Runs WGSL by its manifest on a WebGPU device, in Node or in a browser; it knows no kernel by name. A job is
//   {name?, manifest, wgsl, sizes, host?, constants?, limits?, inputs: {buffer: Uint8Array}, outputs: [buffer]}
// where wgsl is the text, host has the parameters that the host gives, and limits may be tighter than the device's.
import { bufferBytes, giveParameters, plan } from './plan.mjs';

// What a kernel may ask of a device beyond the defaults.
const wantedFeatures = ['shader-f16', 'subgroups'];
const wantedLimits = [
  'maxBufferSize', 'maxStorageBufferBindingSize', 'maxComputeWorkgroupStorageSize', 'maxComputeInvocationsPerWorkgroup', 'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY', 'maxComputeWorkgroupSizeZ', 'maxComputeWorkgroupsPerDimension', 'maxStorageBuffersPerShaderStage',
];

/** A device with all that the adapter offers; null where there is no adapter. */
export async function openDevice(gpu) {
  const adapter = await gpu.requestAdapter();
  if (!adapter) return null;
  const device = await adapter.requestDevice({
    requiredFeatures: wantedFeatures.filter((f) => adapter.features.has(f)),
    requiredLimits: Object.fromEntries(wantedLimits.map((name) => [name, adapter.limits[name]])),
  });
  const { vendor, architecture, description } = adapter.info;
  const about = { vendor, architecture, description, features: [...device.features], language_features: [...gpu.wgslLanguageFeatures] };
  return { device, about, offered: new Set([...about.features, ...about.language_features]) };
}

export function limitsOf({ limits }) {
  return {
    max_binding_bytes: limits.maxStorageBufferBindingSize,
    max_workgroups: limits.maxComputeWorkgroupsPerDimension,
    max_workgroup_bytes: limits.maxComputeWorkgroupStorageSize,
    max_invocations: limits.maxComputeInvocationsPerWorkgroup,
    max_storage_buffers: limits.maxStorageBuffersPerShaderStage,
    binding_alignment: limits.minStorageBufferOffsetAlignment,
    max_workgroup_size: [limits.maxComputeWorkgroupSizeX, limits.maxComputeWorkgroupSizeY, limits.maxComputeWorkgroupSizeZ],
  };
}

/** Runs one job: {ok, outputs?, dispatches?, milliseconds?, lacks?, error?, messages}. `lacks` names features that are not there. */
export async function runJob(opened, job, validateOnly = false) {
  const messages = [];
  const started = performance.now();
  try {
    const needed = [...job.manifest.features, ...job.manifest.language_features].filter((f) => !opened.offered.has(f));
    if (needed.length) return { ok: false, lacks: needed.join(', '), messages };
    const made = await makePipeline(opened.device, job, messages);
    if (validateOnly) return { ok: true, milliseconds: performance.now() - started, messages };
    const ran = await dispatch(opened.device, job, made);
    return { ok: true, ...ran, milliseconds: performance.now() - started, messages };
  } catch (e) {
    return { ok: false, error: e.message, messages };
  }
}

/** Awaits work and throws what the device finds wrong with it. */
async function checked(device, work) {
  device.pushErrorScope('out-of-memory');
  device.pushErrorScope('internal');
  device.pushErrorScope('validation');
  let value;
  let failure = null;
  try {
    value = await work();
  } catch (e) {
    failure = e;
  }
  const errors = [await device.popErrorScope(), await device.popErrorScope(), await device.popErrorScope()].filter(Boolean);
  if (errors.length) throw new Error(errors.map((e) => e.message).join('\n'));
  if (failure) throw failure;
  return value;
}

async function makePipeline(device, { manifest, wgsl, constants = {} }, messages) {
  const storage = (b) => ({ type: b.access === 'read' ? 'read-only-storage' : 'storage' });
  const entries = manifest.bindings.map((b, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: storage(b) }));
  if (manifest.parameters.length) entries.push({ binding: entries.length, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform' } });
  return checked(device, async () => {
    const module = device.createShaderModule({ code: wgsl });
    for (const m of (await module.getCompilationInfo()).messages) messages.push(`${m.type} ${m.lineNum}:${m.linePos}: ${m.message}`);
    if (messages.some((m) => m.startsWith('error'))) throw new Error(`the shader does not compile: ${messages.join('; ')}`);
    const group = device.createBindGroupLayout({ entries });
    const pipeline = await device.createComputePipelineAsync({
      layout: device.createPipelineLayout({ bindGroupLayouts: [group] }),
      compute: { module, entryPoint: manifest.entry, constants },
    });
    return { group, pipeline };
  });
}

async function dispatch(device, { manifest, sizes, host = {}, limits = {}, inputs = {}, outputs = [] }, { group, pipeline }) {
  const names = manifest.bindings.map((b) => b.name);
  for (const name of [...Object.keys(inputs), ...outputs]) {
    if (!names.includes(name)) throw new Error(`kernel '${manifest.kernel}' has no buffer '${name}', only ${names.join(', ')}`);
  }
  const dispatches = plan(manifest, sizes, { ...limitsOf(device), ...limits });
  giveParameters(manifest, host, dispatches);
  const nBytes = bufferBytes(manifest, dispatches);
  const owned = [];
  const make = (size, usage) => {
    owned.push(device.createBuffer({ size, usage }));
    return owned.at(-1);
  };
  try {
    return await checked(device, async () => {
      const buffers = names.map((name, i) => {
        const buffer = make(Math.max(nBytes[i], 4), GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST);
        const given = inputs[name];
        if (given === undefined || dispatches.length === 0) return buffer;
        if (given.length > nBytes[i]) throw new Error(`kernel '${manifest.kernel}' reads ${nBytes[i]} bytes of its buffer '${name}', ${given.length} are given`);
        const whole = given.length - (given.length % 4);
        device.queue.writeBuffer(buffer, 0, given, 0, whole);
        if (whole < given.length) {
          const rest = new Uint8Array(4);
          rest.set(given.subarray(whole));
          device.queue.writeBuffer(buffer, whole, rest);
        }
        return buffer;
      });
      const commands = device.createCommandEncoder();
      const pass = commands.beginComputePass();
      pass.setPipeline(pipeline);
      for (const d of dispatches) {
        const entries = d.bindings.map(({ offset, bytes }, binding) => ({ binding, resource: { buffer: buffers[binding], offset, size: bytes } }));
        if (d.parameters.length) {
          const parameters = new Uint32Array(Math.ceil(d.parameters.length / 4) * 4);
          parameters.set(d.parameters);
          const uniform = make(parameters.byteLength, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
          device.queue.writeBuffer(uniform, 0, parameters);
          entries.push({ binding: entries.length, resource: { buffer: uniform } });
        }
        pass.setBindGroup(0, device.createBindGroup({ layout: group, entries }));
        pass.dispatchWorkgroups(...d.grid);
      }
      pass.end();
      const read = outputs.map((name) => {
        const i = names.indexOf(name);
        const staging = make(Math.max(nBytes[i], 4), GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
        if (nBytes[i]) commands.copyBufferToBuffer(buffers[i], 0, staging, 0, nBytes[i]);
        return { name, staging, size: nBytes[i] };
      });
      device.queue.submit([commands.finish()]);
      const result = {};
      for (const { name, staging, size } of read) {
        await staging.mapAsync(GPUMapMode.READ);
        result[name] = new Uint8Array(staging.getMappedRange().slice(0, size));
        staging.unmap();
      }
      if (!read.length) await device.queue.onSubmittedWorkDone();
      return { outputs: result, dispatches: dispatches.length };
    });
  } finally {
    for (const buffer of owned) buffer.destroy();
  }
}
