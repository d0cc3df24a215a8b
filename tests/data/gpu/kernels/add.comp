#version 450
// sum[i] = a[i] + b[i]
layout(local_size_x = 64) in;
layout(set = 0, binding = 0, std430) readonly buffer A { float a[]; };
layout(set = 0, binding = 1, std430) readonly buffer B { float b[]; };
layout(set = 0, binding = 2, std430) buffer Sum { float sum[]; };
layout(push_constant) uniform Parameters { uint n; } p;

void main() {
    const uint workgroup = (gl_WorkGroupID.z * gl_NumWorkGroups.y + gl_WorkGroupID.y) * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    const uint i = workgroup * 64u + gl_LocalInvocationID.x;
    if (i < p.n) {
        sum[i] = a[i] + b[i];
    }
}
