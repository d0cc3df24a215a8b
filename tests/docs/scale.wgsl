
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
struct parameters {
    n: u32,
}
@group(0) @binding(2) var<uniform> params: parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup_id: vec3<u32>,
        @builtin(num_workgroups) num_workgroups: vec3<u32>,
        @builtin(local_invocation_index) local_index: u32) {
    let i = (workgroup_id.x + num_workgroups.x * (workgroup_id.y + num_workgroups.y * workgroup_id.z)) * 64u + local_index;
    if (i < params.n) {
        y[i] = x[i] * 2.0;
    }
}
