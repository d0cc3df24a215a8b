#version 450
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
// y[i] = factor * x[i] + offset in f16
layout(local_size_x = 32) in;
layout(constant_id = 7) const uint offset = 1u;
layout(set = 0, binding = 0, std430) readonly buffer X { float16_t x[]; };
layout(set = 0, binding = 1, std430) buffer Y { float16_t y[]; };
layout(push_constant) uniform Parameters { uint n; float factor; } p;

void main() {
    const uint workgroup = (gl_WorkGroupID.z * gl_NumWorkGroups.y + gl_WorkGroupID.y) * gl_NumWorkGroups.x + gl_WorkGroupID.x;
    const uint i = workgroup * 32u + gl_LocalInvocationID.x;
    if (i < p.n) {
        y[i] = float16_t(p.factor) * x[i] + float16_t(offset);
    }
}
