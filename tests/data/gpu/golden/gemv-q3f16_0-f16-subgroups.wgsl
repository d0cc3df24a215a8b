// y = W x: 64 lanes along K, 1 along N, 4 rows each
// weights: 3-bit codes, [K, N], 10 in a u32, the first in the lowest bits; 40 share a scale
enable f16;
enable subgroups;
requires subgroup_id;

@group(0) @binding(0) var<storage, read> weights: array<u32>;
@group(0) @binding(1) var<storage, read> scales: array<f16>;
@group(0) @binding(2) var<storage, read> x: array<f16>;
@group(0) @binding(3) var<storage, read_write> y: array<f16>;
var<workgroup> partial: array<f32, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32,
        @builtin(subgroup_id) subgroup_id: u32,
        @builtin(subgroup_invocation_id) subgroup_lane: u32,
        @builtin(num_subgroups) num_subgroups: u32) {
    let first = (workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z)) * 4u;
    if (first >= 4096u) {
        return;
    }
    let lane_k = local_index;
    let lane_n = local_index % 1u;
    let row = min(first + lane_n, 4095u);
    var sum: f32 = 0.0;
    let row_1 = min(first + 1u + lane_n, 4095u);
    var sum_1: f32 = 0.0;
    let row_2 = min(first + 2u + lane_n, 4095u);
    var sum_2: f32 = 0.0;
    let row_3 = min(first + 3u + lane_n, 4095u);
    var sum_3: f32 = 0.0;
    for (var g = lane_k; g < 103u; g += 64u) {
        let group = g * 4096u + row;
        let scale = f32(scales[group]);
        var part: f32 = 0.0;
        let group_1 = g * 4096u + row_1;
        let scale_1 = f32(scales[group_1]);
        var part_1: f32 = 0.0;
        let group_2 = g * 4096u + row_2;
        let scale_2 = f32(scales[group_2]);
        var part_2: f32 = 0.0;
        let group_3 = g * 4096u + row_3;
        let scale_3 = f32(scales[group_3]);
        var part_3: f32 = 0.0;
        for (var load = 0u; load < 4u; load++) {
            let words = weights[(g * 4u + load) * 4096u + row];
            let words_1 = weights[(g * 4u + load) * 4096u + row_1];
            let words_2 = weights[(g * 4u + load) * 4096u + row_2];
            let words_3 = weights[(g * 4u + load) * 4096u + row_3];
            let at = g * 40u + load * 10u;
            let x_1 = vec2<f32>(select(0.0, f32(x[min(at, 4095u)]), at < 4096u), select(0.0, f32(x[min(at + 1u, 4095u)]), at + 1u < 4096u));
            part += dot(vec2<f32>(vec2<u32>(words & 7u, (words >> 3u) & 7u)) - vec2<f32>(3.0), x_1);
            part_1 += dot(vec2<f32>(vec2<u32>(words_1 & 7u, (words_1 >> 3u) & 7u)) - vec2<f32>(3.0), x_1);
            part_2 += dot(vec2<f32>(vec2<u32>(words_2 & 7u, (words_2 >> 3u) & 7u)) - vec2<f32>(3.0), x_1);
            part_3 += dot(vec2<f32>(vec2<u32>(words_3 & 7u, (words_3 >> 3u) & 7u)) - vec2<f32>(3.0), x_1);
            let x_2 = vec2<f32>(select(0.0, f32(x[min(at + 2u, 4095u)]), at + 2u < 4096u), select(0.0, f32(x[min(at + 2u + 1u, 4095u)]), at + 2u + 1u < 4096u));
            part += dot(vec2<f32>(vec2<u32>((words >> 6u) & 7u, (words >> 9u) & 7u)) - vec2<f32>(3.0), x_2);
            part_1 += dot(vec2<f32>(vec2<u32>((words_1 >> 6u) & 7u, (words_1 >> 9u) & 7u)) - vec2<f32>(3.0), x_2);
            part_2 += dot(vec2<f32>(vec2<u32>((words_2 >> 6u) & 7u, (words_2 >> 9u) & 7u)) - vec2<f32>(3.0), x_2);
            part_3 += dot(vec2<f32>(vec2<u32>((words_3 >> 6u) & 7u, (words_3 >> 9u) & 7u)) - vec2<f32>(3.0), x_2);
            let x_3 = vec2<f32>(select(0.0, f32(x[min(at + 4u, 4095u)]), at + 4u < 4096u), select(0.0, f32(x[min(at + 4u + 1u, 4095u)]), at + 4u + 1u < 4096u));
            part += dot(vec2<f32>(vec2<u32>((words >> 12u) & 7u, (words >> 15u) & 7u)) - vec2<f32>(3.0), x_3);
            part_1 += dot(vec2<f32>(vec2<u32>((words_1 >> 12u) & 7u, (words_1 >> 15u) & 7u)) - vec2<f32>(3.0), x_3);
            part_2 += dot(vec2<f32>(vec2<u32>((words_2 >> 12u) & 7u, (words_2 >> 15u) & 7u)) - vec2<f32>(3.0), x_3);
            part_3 += dot(vec2<f32>(vec2<u32>((words_3 >> 12u) & 7u, (words_3 >> 15u) & 7u)) - vec2<f32>(3.0), x_3);
            let x_4 = vec2<f32>(select(0.0, f32(x[min(at + 6u, 4095u)]), at + 6u < 4096u), select(0.0, f32(x[min(at + 6u + 1u, 4095u)]), at + 6u + 1u < 4096u));
            part += dot(vec2<f32>(vec2<u32>((words >> 18u) & 7u, (words >> 21u) & 7u)) - vec2<f32>(3.0), x_4);
            part_1 += dot(vec2<f32>(vec2<u32>((words_1 >> 18u) & 7u, (words_1 >> 21u) & 7u)) - vec2<f32>(3.0), x_4);
            part_2 += dot(vec2<f32>(vec2<u32>((words_2 >> 18u) & 7u, (words_2 >> 21u) & 7u)) - vec2<f32>(3.0), x_4);
            part_3 += dot(vec2<f32>(vec2<u32>((words_3 >> 18u) & 7u, (words_3 >> 21u) & 7u)) - vec2<f32>(3.0), x_4);
            let x_5 = vec2<f32>(select(0.0, f32(x[min(at + 8u, 4095u)]), at + 8u < 4096u), select(0.0, f32(x[min(at + 8u + 1u, 4095u)]), at + 8u + 1u < 4096u));
            part += dot(vec2<f32>(vec2<u32>((words >> 24u) & 7u, (words >> 27u) & 7u)) - vec2<f32>(3.0), x_5);
            part_1 += dot(vec2<f32>(vec2<u32>((words_1 >> 24u) & 7u, (words_1 >> 27u) & 7u)) - vec2<f32>(3.0), x_5);
            part_2 += dot(vec2<f32>(vec2<u32>((words_2 >> 24u) & 7u, (words_2 >> 27u) & 7u)) - vec2<f32>(3.0), x_5);
            part_3 += dot(vec2<f32>(vec2<u32>((words_3 >> 24u) & 7u, (words_3 >> 27u) & 7u)) - vec2<f32>(3.0), x_5);
        }
        sum += part * scale;
        sum_1 += part_1 * scale_1;
        sum_2 += part_2 * scale_2;
        sum_3 += part_3 * scale_3;
    }
    sum = subgroupAdd(sum);
    sum_1 = subgroupAdd(sum_1);
    sum_2 = subgroupAdd(sum_2);
    sum_3 = subgroupAdd(sum_3);
    if (subgroup_lane == 0u) {
        partial[subgroup_id] = sum;
        partial[subgroup_id + 64u] = sum_1;
        partial[subgroup_id + 128u] = sum_2;
        partial[subgroup_id + 192u] = sum_3;
    }
    workgroupBarrier();
    if (lane_k < 4u) {
        let out_row = first + lane_k + lane_n;
        if (out_row < 4096u) {
            var total: f32 = 0.0;
            for (var i = 0u; i < num_subgroups; i++) {
                total += partial[lane_k * 64u + i];
            }
            y[out_row] = f16(total);
        }
    }
}
