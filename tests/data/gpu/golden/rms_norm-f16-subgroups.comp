#version 450
// y = h / sqrt(mean(h^2) + eps) * gains, h = x; a workgroup for each row
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require

layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer x_buffer { f16vec4 x[]; };
layout(set = 0, binding = 1, std430) readonly buffer gains_buffer { f16vec4 gains[]; };
layout(set = 0, binding = 2, std430) buffer y_buffer { f16vec4 y[]; };
layout(push_constant) uniform parameters {
    uint n_rows;
    float eps;
} params;
shared float partial[64];

void main() {
    const uvec3 workgroup_id = gl_WorkGroupID;
    const uvec3 num_workgroups = gl_NumWorkGroups;
    const uint local_index = gl_LocalInvocationIndex;
    const uint subgroup_id = gl_SubgroupID;
    const uint subgroup_lane = gl_SubgroupInvocationID;
    const uint num_subgroups = gl_NumSubgroups;
    const uint row = workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z);
    if (row >= params.n_rows) {
        return;
    }
    const uint first = row * 1024u;
    float squares = 0.0;
    for (uint i = local_index; i < 1024u; i += 64u) {
        const vec4 v = vec4(x[first + i]);
        squares += dot(v, v);
    }
    const float of_subgroup = subgroupAdd(squares);
    if (subgroup_lane == 0u) {
        partial[subgroup_id] = of_subgroup;
    }
    barrier();
    float total = partial[0u];
    for (uint i_1 = 1u; i_1 < num_subgroups; i_1++) {
        total += partial[i_1];
    }
    barrier();
    const float scale = inversesqrt(total / float(4096u) + params.eps);
    for (uint i_2 = local_index; i_2 < 1024u; i_2 += 64u) {
        y[first + i_2] = f16vec4(vec4(x[first + i_2]) * scale * vec4(gains[i_2]));
    }
}
