// y = softmax(scale q K) V: 7 queries share each reading of K and V, 16 positions at once

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> k_cache: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v_cache: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
struct parameters {
    kv_heads: u32,
    n_rows: u32,
    start: u32,
    scale: f32,
    capacity: u32,
    first_kv_head: u32,
    blocks: u32,
}
@group(0) @binding(4) var<uniform> params: parameters;
var<workgroup> queries: array<vec4<f32>, 224>;
var<workgroup> products: array<f32, 448>;
var<workgroup> scores: array<f32, 112>;
var<workgroup> weights: array<f32, 112>;
var<workgroup> most: array<f32, 7>;
var<workgroup> next_most: array<f32, 7>;
var<workgroup> shrink: array<f32, 7>;
var<workgroup> sums: array<f32, 7>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32) {
    let index = workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z);
    if (index >= params.kv_heads * params.blocks) {
        return;
    }
    let kv_head = index % params.kv_heads;
    let first_head = (params.first_kv_head + kv_head) * 7u;
    let first_entry = kv_head * params.capacity;
    let first_row = index / params.kv_heads % params.blocks * 7u;
    let last_row = min(first_row + 7u, params.n_rows) - 1u;
    let first = 0u;
    let end = params.start + last_row / 7u + 1u;
    let last = end - 1u;
    for (var i = local_index; i < 112u; i += 64u) {
        let row = min(first_row + i / 16u, last_row);
        queries[i] = q[(row / 7u * 14u + (first_head + row % 7u)) * 16u + i % 16u];
    }
    var sum: f32 = 0.0;
    if (local_index < 7u) {
        let row_1 = min(first_row + local_index, last_row);
        most[local_index] = -1e+20;
    }
    let lane = local_index % 16u;
    let slot = local_index / 16u;
    var values: vec4<f32> = vec4<f32>(0.0);
    var values_1: vec4<f32> = vec4<f32>(0.0);
    var values_2: vec4<f32> = vec4<f32>(0.0);
    var values_3: vec4<f32> = vec4<f32>(0.0);
    var values_4: vec4<f32> = vec4<f32>(0.0);
    var values_5: vec4<f32> = vec4<f32>(0.0);
    var values_6: vec4<f32> = vec4<f32>(0.0);
    workgroupBarrier();
    for (var base = first; base < end; base += 16u) {
        let own_key = (first_entry + min(base + local_index / 4u, last)) * 16u;
        var qk: f32 = 0.0;
        var qk_1: f32 = 0.0;
        var qk_2: f32 = 0.0;
        var qk_3: f32 = 0.0;
        var qk_4: f32 = 0.0;
        var qk_5: f32 = 0.0;
        var qk_6: f32 = 0.0;
        for (var i_1 = local_index % 4u; i_1 < 16u; i_1 += 4u) {
            let k = k_cache[own_key + i_1];
            qk += dot(queries[i_1], k);
            qk_1 += dot(queries[i_1 + 16u], k);
            qk_2 += dot(queries[i_1 + 32u], k);
            qk_3 += dot(queries[i_1 + 48u], k);
            qk_4 += dot(queries[i_1 + 64u], k);
            qk_5 += dot(queries[i_1 + 80u], k);
            qk_6 += dot(queries[i_1 + 96u], k);
        }
        products[local_index] = qk;
        products[local_index + 64u] = qk_1;
        products[local_index + 128u] = qk_2;
        products[local_index + 192u] = qk_3;
        products[local_index + 256u] = qk_4;
        products[local_index + 320u] = qk_5;
        products[local_index + 384u] = qk_6;
        workgroupBarrier();
        for (var i_2 = local_index; i_2 < 112u; i_2 += 64u) {
            let row_2 = min(first_row + i_2 / 16u, last_row);
            let at = params.start + row_2 / 7u;
            let key = base + i_2 % 16u;
            let qk_7 = products[i_2 * 4u] + products[i_2 * 4u + 1u] + products[i_2 * 4u + 2u] + products[i_2 * 4u + 3u];
            scores[i_2] = select(-1e+30, qk_7 * params.scale, key <= at);
        }
        workgroupBarrier();
        for (var i_3 = local_index; i_3 < 112u; i_3 += 64u) {
            let r = i_3 / 16u;
            var largest: f32 = most[r];
            for (var j = r * 16u; j < r * 16u + 16u; j++) {
                largest = max(largest, scores[j]);
            }
            weights[i_3] = exp(scores[i_3] - largest);
            if (i_3 % 16u == 0u) {
                shrink[r] = exp(most[r] - largest);
                next_most[r] = largest;
            }
        }
        workgroupBarrier();
        values = values * shrink[0u];
        values_1 = values_1 * shrink[1u];
        values_2 = values_2 * shrink[2u];
        values_3 = values_3 * shrink[3u];
        values_4 = values_4 * shrink[4u];
        values_5 = values_5 * shrink[5u];
        values_6 = values_6 * shrink[6u];
        for (var j_1 = slot; j_1 < min(end - base, 16u); j_1 += 4u) {
            let v = v_cache[(first_entry + (base + j_1)) * 16u + lane];
            values += weights[j_1] * v;
            values_1 += weights[j_1 + 16u] * v;
            values_2 += weights[j_1 + 32u] * v;
            values_3 += weights[j_1 + 48u] * v;
            values_4 += weights[j_1 + 64u] * v;
            values_5 += weights[j_1 + 80u] * v;
            values_6 += weights[j_1 + 96u] * v;
        }
        if (local_index < 7u) {
            sum = sum * shrink[local_index];
            for (var j_2 = local_index * 16u; j_2 < local_index * 16u + 16u; j_2++) {
                sum += weights[j_2];
            }
            most[local_index] = next_most[local_index];
        }
    }
    // The queries are no longer needed: their place takes the sums.
    if (local_index < 7u) {
        sums[local_index] = sum;
    }
    for (var i_4 = local_index; i_4 < 224u; i_4 += 64u) {
        queries[i_4] = vec4<f32>(0.0);
    }
    workgroupBarrier();
    for (var i_5 = 0u; i_5 < 4u; i_5 += 2u) {
        if (slot >= i_5 && slot < i_5 + 2u) {
            let to = local_index - i_5 * 16u;
            queries[to] += values;
            queries[to + 32u] += values_1;
            queries[to + 64u] += values_2;
            queries[to + 96u] += values_3;
            queries[to + 128u] += values_4;
            queries[to + 160u] += values_5;
            queries[to + 192u] += values_6;
        }
        workgroupBarrier();
    }
    for (var i_6 = local_index; i_6 < (last_row - first_row + 1u) * 16u; i_6 += 64u) {
        let row_3 = first_row + i_6 / 16u;
        let query = row_3 / 7u * 14u + (first_head + row_3 % 7u);
        let at_1 = i_6 / 16u * 32u + i_6 % 16u;
        var total: vec4<f32> = queries[at_1];
        for (var j_3 = at_1 + 16u; j_3 < at_1 + 32u; j_3 += 16u) {
            total += queries[j_3];
        }
        y[query * 16u + i_6 % 16u] = total / sums[i_6 / 16u];
    }
}
