// The greatest of every 2048 numbers of a row, with their ids

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>;
struct parameters {
    k: u32,
    rows: u32,
}
@group(0) @binding(3) var<uniform> params: parameters;
var<workgroup> partial: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32) {
    let own = workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z);
    let slices = (params.k + 2047u) / 2048u;
    let row = own / slices;
    if (row >= params.rows) {
        return;
    }
    let first = own % slices * 2048u;
    let end = min(first + 2048u, params.k);
    var last_key: u32 = 4294967295u;
    var last_id: u32 = 4294967295u;
    var best_key: u32 = 0u;
    var best_id: u32 = 0u;
    for (var i = first + local_index; i < end; i += 64u) {
        let bits = bitcast<u32>(x[row * params.k + i]);
        let magnitude = bits & 2147483647u;
        let key = select(select(2147483648u - magnitude, 2147483648u + magnitude, bits < 2147483648u), 0u, magnitude > 2139095040u);
        if ((key < last_key || (key == last_key && i > last_id)) && (key > best_key || (key == best_key && i < best_id))) {
            best_key = key;
            best_id = i;
        }
    }
    partial[local_index] = best_key;
    workgroupBarrier();
    for (var level = 0u; level < 6u; level++) {
        let stride = 32u >> level;
        if (local_index < stride) {
            partial[local_index] = max(partial[local_index], partial[local_index + stride]);
        }
        workgroupBarrier();
    }
    let greatest = partial[0u];
    workgroupBarrier();
    last_key = greatest;
    partial[local_index] = select(4294967295u, best_id, best_key == last_key);
    workgroupBarrier();
    for (var level_1 = 0u; level_1 < 6u; level_1++) {
        let stride_1 = 32u >> level_1;
        if (local_index < stride_1) {
            partial[local_index] = min(partial[local_index], partial[local_index + stride_1]);
        }
        workgroupBarrier();
    }
    let lowest_id = partial[0u];
    workgroupBarrier();
    last_id = lowest_id;
    if (local_index == 0u) {
        let at = own;
        values[at] = bitcast<f32>(select(select(0u - last_key, last_key - 2147483648u, last_key >= 2147483648u), 4286578687u, last_key == 0u));
        ids[at] = select(last_id, 4294967295u, last_key == 0u);
    }
}
