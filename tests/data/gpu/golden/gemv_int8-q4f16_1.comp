#version 450
// y = W x: 16 lanes along K, 4 along N, 4 rows each
// weights: 4-bit codes, [N, K], 8 in a u32, the first in the lowest bits; 32 share a scale
// x: int8 with a scale and a sum for each 32; codes that meet in a u32: 0 2 4 6, 1 3 5 7 of each 8
#extension GL_EXT_spirv_intrinsics : require
spirv_instruction(extensions = ["SPV_KHR_integer_dot_product"], capabilities = [6019, 6018], id = 4450)
int dot_packed_i8(uint a, uint b, spirv_literal int format);

layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer weights_buffer { uvec4 weights[]; };
layout(set = 0, binding = 1, std430) readonly buffer scales_buffer { uint scales[]; };
layout(set = 0, binding = 2, std430) readonly buffer x_buffer { uvec2 x[]; };
layout(set = 0, binding = 3, std430) readonly buffer x_scales_buffer { vec2 x_scales[]; };
layout(set = 0, binding = 4, std430) buffer y_buffer { float y[]; };
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
        int part = 0;
        const uint group_1 = row_1 * 128u + g;
        const uint pair_1 = scales[group_1 >> 1u];
        const float scale_1 = ((group_1 & 1u) == 1u ? unpackHalf2x16(pair_1).y : unpackHalf2x16(pair_1).x);
        int part_1 = 0;
        const uint group_2 = row_2 * 128u + g;
        const uint pair_2 = scales[group_2 >> 1u];
        const float scale_2 = ((group_2 & 1u) == 1u ? unpackHalf2x16(pair_2).y : unpackHalf2x16(pair_2).x);
        int part_2 = 0;
        const uint group_3 = row_3 * 128u + g;
        const uint pair_3 = scales[group_3 >> 1u];
        const float scale_3 = ((group_3 & 1u) == 1u ? unpackHalf2x16(pair_3).y : unpackHalf2x16(pair_3).x);
        int part_3 = 0;
        const uvec4 words = weights[row * 128u + g];
        const uvec4 words_1 = weights[row_1 * 128u + g];
        const uvec4 words_2 = weights[row_2 * 128u + g];
        const uvec4 words_3 = weights[row_3 * 128u + g];
        for (uint i = 0u; i < 4u; i++) {
            const uint at = g * 4u + i;
            const uvec2 x_1 = x[at];
            part += dot_packed_i8(words[i] & 252645135u, x_1.x, 0);
            part_1 += dot_packed_i8(words_1[i] & 252645135u, x_1.x, 0);
            part_2 += dot_packed_i8(words_2[i] & 252645135u, x_1.x, 0);
            part_3 += dot_packed_i8(words_3[i] & 252645135u, x_1.x, 0);
            part += dot_packed_i8((words[i] >> 4u) & 252645135u, x_1.y, 0);
            part_1 += dot_packed_i8((words_1[i] >> 4u) & 252645135u, x_1.y, 0);
            part_2 += dot_packed_i8((words_2[i] >> 4u) & 252645135u, x_1.y, 0);
            part_3 += dot_packed_i8((words_3[i] >> 4u) & 252645135u, x_1.y, 0);
        }
        const vec2 x_scale = x_scales[g];
        sum += scale * x_scale.x * (float(part) - 7.0 * x_scale.y);
        sum_1 += scale_1 * x_scale.x * (float(part_1) - 7.0 * x_scale.y);
        sum_2 += scale_2 * x_scale.x * (float(part_2) - 7.0 * x_scale.y);
        sum_3 += scale_3 * x_scale.x * (float(part_3) - 7.0 * x_scale.y);
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
