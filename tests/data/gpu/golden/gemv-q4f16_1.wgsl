// y = W x: 16 lanes along K, 4 along N, 4 rows each
// weights: 4-bit codes, [N, K], 8 in a u32, the first in the lowest bits; 32 share a scale

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32) {
    let first = (workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z)) * 16u;
    if (first >= 4096u) {
        return;
    }
    let lane_k = local_index % 16u;
    let lane_n = local_index / 16u;
    let row = min(first + lane_n * 4u, 4095u);
    var sum: f32 = 0.0;
    let row_1 = min(first + lane_n * 4u + 1u, 4095u);
    var sum_1: f32 = 0.0;
    let row_2 = min(first + lane_n * 4u + 2u, 4095u);
    var sum_2: f32 = 0.0;
    let row_3 = min(first + lane_n * 4u + 3u, 4095u);
    var sum_3: f32 = 0.0;
    for (var g = lane_k; g < 128u; g += 16u) {
        let group = row * 128u + g;
        let pair = scales[group >> 1u];
        let scale = select(unpack2x16float(pair).x, unpack2x16float(pair).y, (group & 1u) == 1u);
        var part: f32 = 0.0;
        let group_1 = row_1 * 128u + g;
        let pair_1 = scales[group_1 >> 1u];
        let scale_1 = select(unpack2x16float(pair_1).x, unpack2x16float(pair_1).y, (group_1 & 1u) == 1u);
        var part_1: f32 = 0.0;
        let group_2 = row_2 * 128u + g;
        let pair_2 = scales[group_2 >> 1u];
        let scale_2 = select(unpack2x16float(pair_2).x, unpack2x16float(pair_2).y, (group_2 & 1u) == 1u);
        var part_2: f32 = 0.0;
        let group_3 = row_3 * 128u + g;
        let pair_3 = scales[group_3 >> 1u];
        let scale_3 = select(unpack2x16float(pair_3).x, unpack2x16float(pair_3).y, (group_3 & 1u) == 1u);
        var part_3: f32 = 0.0;
        let words = weights[row * 128u + g];
        let words_1 = weights[row_1 * 128u + g];
        let words_2 = weights[row_2 * 128u + g];
        let words_3 = weights[row_3 * 128u + g];
        for (var i = 0u; i < 4u; i++) {
            let at = g * 32u + i * 8u;
            let x_1 = x[at / 4u];
            part += dot(vec4<f32>(vec4<u32>(words[i] & 15u, (words[i] >> 4u) & 15u, (words[i] >> 8u) & 15u, (words[i] >> 12u) & 15u)) - vec4<f32>(7.0), x_1);
            part_1 += dot(vec4<f32>(vec4<u32>(words_1[i] & 15u, (words_1[i] >> 4u) & 15u, (words_1[i] >> 8u) & 15u, (words_1[i] >> 12u) & 15u)) - vec4<f32>(7.0), x_1);
            part_2 += dot(vec4<f32>(vec4<u32>(words_2[i] & 15u, (words_2[i] >> 4u) & 15u, (words_2[i] >> 8u) & 15u, (words_2[i] >> 12u) & 15u)) - vec4<f32>(7.0), x_1);
            part_3 += dot(vec4<f32>(vec4<u32>(words_3[i] & 15u, (words_3[i] >> 4u) & 15u, (words_3[i] >> 8u) & 15u, (words_3[i] >> 12u) & 15u)) - vec4<f32>(7.0), x_1);
            let x_2 = x[(at + 4u) / 4u];
            part += dot(vec4<f32>(vec4<u32>((words[i] >> 16u) & 15u, (words[i] >> 20u) & 15u, (words[i] >> 24u) & 15u, (words[i] >> 28u) & 15u)) - vec4<f32>(7.0), x_2);
            part_1 += dot(vec4<f32>(vec4<u32>((words_1[i] >> 16u) & 15u, (words_1[i] >> 20u) & 15u, (words_1[i] >> 24u) & 15u, (words_1[i] >> 28u) & 15u)) - vec4<f32>(7.0), x_2);
            part_2 += dot(vec4<f32>(vec4<u32>((words_2[i] >> 16u) & 15u, (words_2[i] >> 20u) & 15u, (words_2[i] >> 24u) & 15u, (words_2[i] >> 28u) & 15u)) - vec4<f32>(7.0), x_2);
            part_3 += dot(vec4<f32>(vec4<u32>((words_3[i] >> 16u) & 15u, (words_3[i] >> 20u) & 15u, (words_3[i] >> 24u) & 15u, (words_3[i] >> 28u) & 15u)) - vec4<f32>(7.0), x_2);
        }
        sum += part * scale;
        sum_1 += part_1 * scale_1;
        sum_2 += part_2 * scale_2;
        sum_3 += part_3 * scale_3;
    }
    let own = lane_n * 16u + lane_k;
    partial[own] = sum;
    partial[own + 64u] = sum_1;
    partial[own + 128u] = sum_2;
    partial[own + 192u] = sum_3;
    workgroupBarrier();
    if (lane_k < 8u) {
        for (var i_1 = 0u; i_1 < 4u; i_1++) {
            partial[own + i_1 * 64u] += partial[own + i_1 * 64u + 8u];
        }
    }
    workgroupBarrier();
    if (lane_k < 4u) {
        for (var i_2 = 0u; i_2 < 4u; i_2++) {
            partial[own + i_2 * 64u] += partial[own + i_2 * 64u + 4u];
        }
    }
    workgroupBarrier();
    if (lane_k < 2u) {
        for (var i_3 = 0u; i_3 < 4u; i_3++) {
            partial[own + i_3 * 64u] += partial[own + i_3 * 64u + 2u];
        }
    }
    workgroupBarrier();
    if (lane_k < 1u) {
        for (var i_4 = 0u; i_4 < 4u; i_4++) {
            partial[own + i_4 * 64u] += partial[own + i_4 * 64u + 1u];
        }
    }
    workgroupBarrier();
    if (lane_k < 4u) {
        let out_row = first + lane_n * 4u + lane_k;
        if (out_row < 4096u) {
            y[out_row] = partial[lane_n * 16u + lane_k * 64u];
        }
    }
}
