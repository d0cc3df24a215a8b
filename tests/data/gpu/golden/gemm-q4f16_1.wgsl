// y = W x: tiles of 32 x 32, an invocation computes 4 x 4 of it
// weights: 4-bit codes, [N, K], 8 in a u32, the first in the lowest bits; 32 share a scale

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
struct parameters {
    m: u32,
}
@group(0) @binding(4) var<uniform> params: parameters;
var<workgroup> x_tile: array<vec4<f32>, 264>;
var<workgroup> w_tile: array<vec4<f32>, 264>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32) {
    let m_tiles = (params.m + 31u) / 32u;
    let tile = workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z);
    let first_n = tile / m_tiles * 32u;
    if (first_n >= 4096u) {
        return;
    }
    let first_m = tile % m_tiles * 32u;
    let own_m = local_index / 8u;
    let own_n = local_index % 8u;
    var sum: vec4<f32> = vec4<f32>(0.0);
    var sum_1: vec4<f32> = vec4<f32>(0.0);
    var sum_2: vec4<f32> = vec4<f32>(0.0);
    var sum_3: vec4<f32> = vec4<f32>(0.0);
    for (var first = 0u; first < 512u; first += 4u) {
        for (var item = local_index; item < 256u; item += 64u) {
            let tile_row = item / 8u;
            let piece = item % 8u;
            let x_row = min(first_m + tile_row, params.m - 1u);
            let at = first * 8u + piece * 4u;
            x_tile[piece * 33u + tile_row] = x[(x_row * 4096u + at) / 4u];
        }
        for (var item_1 = local_index; item_1 < 128u; item_1 += 64u) {
            let tile_row_1 = item_1 / 4u;
            let piece_1 = item_1 % 4u;
            let unit = first + piece_1;
            let w_row = min(first_n + tile_row_1, 4095u);
            let word = weights[w_row * 128u + (unit / 4u + unit % 4u / 4u)][unit % 4u % 4u];
            let group = w_row * 128u + unit / 4u;
            let pair = scales[group >> 1u];
            let scale = select(unpack2x16float(pair).x, unpack2x16float(pair).y, (group & 1u) == 1u);
            let scales_of_unit = vec4<f32>(scale);
            w_tile[piece_1 * 2u * 33u + tile_row_1] = (vec4<f32>(vec4<u32>(word & 15u, (word >> 4u) & 15u, (word >> 8u) & 15u, (word >> 12u) & 15u)) - vec4<f32>(7.0)) * scales_of_unit;
            w_tile[(piece_1 * 2u + 1u) * 33u + tile_row_1] = (vec4<f32>(vec4<u32>((word >> 16u) & 15u, (word >> 20u) & 15u, (word >> 24u) & 15u, (word >> 28u) & 15u)) - vec4<f32>(7.0)) * scales_of_unit;
        }
        workgroupBarrier();
        for (var v = 0u; v < 8u; v++) {
            let x_at = v * 33u + own_m;
            let x_1 = x_tile[x_at];
            let x_2 = x_tile[x_at + 8u];
            let x_3 = x_tile[x_at + 16u];
            let x_4 = x_tile[x_at + 24u];
            let w_at = v * 33u + own_n;
            let w = w_tile[w_at];
            let w_1 = w_tile[w_at + 8u];
            let w_2 = w_tile[w_at + 16u];
            let w_3 = w_tile[w_at + 24u];
            let four = vec4<f32>(w.x, w_1.x, w_2.x, w_3.x);
            sum += x_1.x * four;
            sum_1 += x_2.x * four;
            sum_2 += x_3.x * four;
            sum_3 += x_4.x * four;
            let four_1 = vec4<f32>(w.y, w_1.y, w_2.y, w_3.y);
            sum += x_1.y * four_1;
            sum_1 += x_2.y * four_1;
            sum_2 += x_3.y * four_1;
            sum_3 += x_4.y * four_1;
            let four_2 = vec4<f32>(w.z, w_1.z, w_2.z, w_3.z);
            sum += x_1.z * four_2;
            sum_1 += x_2.z * four_2;
            sum_2 += x_3.z * four_2;
            sum_3 += x_4.z * four_2;
            let four_3 = vec4<f32>(w.w, w_1.w, w_2.w, w_3.w);
            sum += x_1.w * four_3;
            sum_1 += x_2.w * four_3;
            sum_2 += x_3.w * four_3;
            sum_3 += x_4.w * four_3;
        }
        workgroupBarrier();
    }
    var result = array<vec4<f32>, 4>();
    result[0u] = sum;
    result[1u] = sum_1;
    result[2u] = sum_2;
    result[3u] = sum_3;
    for (var i = 0u; i < 4u; i++) {
        let row = first_m + own_m + i * 8u;
        for (var j = 0u; j < 4u; j++) {
            let column = first_n + own_n + j * 8u;
            if (row < params.m && column < 4096u) {
                y[row * 4096u + column] = result[i][j];
            }
        }
    }
}
