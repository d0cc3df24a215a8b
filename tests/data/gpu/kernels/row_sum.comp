#version 450
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
// y[row] = sum of w[row, :], a workgroup for each row; [rows, k4] vectors of 4
layout(local_size_x = 32) in;
layout(set = 0, binding = 0, std430) readonly buffer W { uvec4 w[]; };
layout(set = 0, binding = 1, std430) readonly buffer Bias { uint bias[]; };
layout(set = 0, binding = 2, std430) buffer Y { uint y[]; };
layout(push_constant) uniform Parameters { uint rows; uint first_row; uint k4; } p;
shared uint partial[32];

void main() {
    const uint row = (gl_WorkGroupID.z * gl_NumWorkGroups.y + gl_WorkGroupID.y) * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    const bool valid = row < p.rows;
    uint sum = 0u;
    if (valid) {
        for (uint i = gl_LocalInvocationID.x; i < p.k4; i += 32u) {
            const uvec4 v = w[row * p.k4 + i];
            sum += v.x + v.y + v.z + v.w;
        }
    }
    const uint of_subgroup = subgroupAdd(sum);
    if (gl_SubgroupInvocationID == 0u) {
        partial[gl_SubgroupID] = of_subgroup;
    }
    barrier();
    if (valid && gl_LocalInvocationID.x == 0u) {
        uint all = bias[p.first_row + row];
        for (uint i = 0u; i < gl_NumSubgroups; ++i) {
            all += partial[i];
        }
        y[row] = all;
    }
}
