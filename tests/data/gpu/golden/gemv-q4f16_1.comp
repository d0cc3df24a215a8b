#version 450
// y = W x: 16 lanes along K, 4 along N, 4 rows each
// weights: 4-bit codes, [N, K], 8 in a u32, the first in the lowest bits; 32 share a scale

layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer weights_buffer { uvec4 weights[]; };
layout(set = 0, binding = 1, std430) readonly buffer scales_buffer { uint scales[]; };
layout(set = 0, binding = 2, std430) readonly buffer x_buffer { vec4 x[]; };
layout(set = 0, binding = 3, std430) buffer y_buffer { float y[]; };
shared float partial[256];

void main() {
    const uvec3 workgroup_id = gl_WorkGroupID;
    const uvec3 num_workgroups = gl_NumWorkGroups;
    const uint local_index = gl_LocalInvocationIndex;
    const uint first = (workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z)) * 16u;
    if (first >= 4096u) {
        return;
    }
    const uint lane_k = local_index % 16u;
    const uint lane_n = local_index / 16u;
    const uint row = min(first + lane_n * 4u, 4095u);
    float sum = 0.0;
    const uint row_1 = min(first + lane_n * 4u + 1u, 4095u);
    float sum_1 = 0.0;
    const uint row_2 = min(first + lane_n * 4u + 2u, 4095u);
    float sum_2 = 0.0;
    const uint row_3 = min(first + lane_n * 4u + 3u, 4095u);
    float sum_3 = 0.0;
    for (uint g = lane_k; g < 128u; g += 16u) {
        const uint group = row * 128u + g;
        const uint pair = scales[group >> 1u];
        const float scale = ((group & 1u) == 1u ? unpackHalf2x16(pair).y : unpackHalf2x16(pair).x);
        float part = 0.0;
        const uint group_1 = row_1 * 128u + g;
        const uint pair_1 = scales[group_1 >> 1u];
        const float scale_1 = ((group_1 & 1u) == 1u ? unpackHalf2x16(pair_1).y : unpackHalf2x16(pair_1).x);
        float part_1 = 0.0;
        const uint group_2 = row_2 * 128u + g;
        const uint pair_2 = scales[group_2 >> 1u];
        const float scale_2 = ((group_2 & 1u) == 1u ? unpackHalf2x16(pair_2).y : unpackHalf2x16(pair_2).x);
        float part_2 = 0.0;
        const uint group_3 = row_3 * 128u + g;
        const uint pair_3 = scales[group_3 >> 1u];
        const float scale_3 = ((group_3 & 1u) == 1u ? unpackHalf2x16(pair_3).y : unpackHalf2x16(pair_3).x);
        float part_3 = 0.0;
        const uvec4 words = weights[row * 128u + g];
        const uvec4 words_1 = weights[row_1 * 128u + g];
        const uvec4 words_2 = weights[row_2 * 128u + g];
        const uvec4 words_3 = weights[row_3 * 128u + g];
        for (uint i = 0u; i < 4u; i++) {
            const uint at = g * 32u + i * 8u;
            const vec4 x_1 = x[at / 4u];
            part += dot(vec4(uvec4(words[i] & 15u, (words[i] >> 4u) & 15u, (words[i] >> 8u) & 15u, (words[i] >> 12u) & 15u)) - vec4(7.0), x_1);
            part_1 += dot(vec4(uvec4(words_1[i] & 15u, (words_1[i] >> 4u) & 15u, (words_1[i] >> 8u) & 15u, (words_1[i] >> 12u) & 15u)) - vec4(7.0), x_1);
            part_2 += dot(vec4(uvec4(words_2[i] & 15u, (words_2[i] >> 4u) & 15u, (words_2[i] >> 8u) & 15u, (words_2[i] >> 12u) & 15u)) - vec4(7.0), x_1);
            part_3 += dot(vec4(uvec4(words_3[i] & 15u, (words_3[i] >> 4u) & 15u, (words_3[i] >> 8u) & 15u, (words_3[i] >> 12u) & 15u)) - vec4(7.0), x_1);
            const vec4 x_2 = x[(at + 4u) / 4u];
            part += dot(vec4(uvec4((words[i] >> 16u) & 15u, (words[i] >> 20u) & 15u, (words[i] >> 24u) & 15u, (words[i] >> 28u) & 15u)) - vec4(7.0), x_2);
            part_1 += dot(vec4(uvec4((words_1[i] >> 16u) & 15u, (words_1[i] >> 20u) & 15u, (words_1[i] >> 24u) & 15u, (words_1[i] >> 28u) & 15u)) - vec4(7.0), x_2);
            part_2 += dot(vec4(uvec4((words_2[i] >> 16u) & 15u, (words_2[i] >> 20u) & 15u, (words_2[i] >> 24u) & 15u, (words_2[i] >> 28u) & 15u)) - vec4(7.0), x_2);
            part_3 += dot(vec4(uvec4((words_3[i] >> 16u) & 15u, (words_3[i] >> 20u) & 15u, (words_3[i] >> 24u) & 15u, (words_3[i] >> 28u) & 15u)) - vec4(7.0), x_2);
        }
        sum += part * scale;
        sum_1 += part_1 * scale_1;
        sum_2 += part_2 * scale_2;
        sum_3 += part_3 * scale_3;
    }
    const uint own = lane_n * 16u + lane_k;
    partial[own] = sum;
    partial[own + 64u] = sum_1;
    partial[own + 128u] = sum_2;
    partial[own + 192u] = sum_3;
    barrier();
    if (lane_k < 8u) {
        for (uint i_1 = 0u; i_1 < 4u; i_1++) {
            partial[own + i_1 * 64u] += partial[own + i_1 * 64u + 8u];
        }
    }
    barrier();
    if (lane_k < 4u) {
        for (uint i_2 = 0u; i_2 < 4u; i_2++) {
            partial[own + i_2 * 64u] += partial[own + i_2 * 64u + 4u];
        }
    }
    barrier();
    if (lane_k < 2u) {
        for (uint i_3 = 0u; i_3 < 4u; i_3++) {
            partial[own + i_3 * 64u] += partial[own + i_3 * 64u + 2u];
        }
    }
    barrier();
    if (lane_k < 1u) {
        for (uint i_4 = 0u; i_4 < 4u; i_4++) {
            partial[own + i_4 * 64u] += partial[own + i_4 * 64u + 1u];
        }
    }
    barrier();
    if (lane_k < 4u) {
        const uint out_row = first + lane_n * 4u + lane_k;
        if (out_row < 4096u) {
            y[out_row] = partial[lane_n * 16u + lane_k * 64u];
        }
    }
}
