enable f16;
// y[i] = factor * x[i] + offset in f16
struct Parameters { n: u32, factor: f32 }
override offset: u32 = 1u;
@group(0) @binding(0) var<storage, read> x: array<f16>;
@group(0) @binding(1) var<storage, read_write> y: array<f16>;
@group(0) @binding(2) var<uniform> p: Parameters;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let workgroup = (id.z * grid.y + id.y) * grid.x + id.x;
    let i = workgroup * 32u + local.x;
    if (i < p.n) {
        y[i] = f16(p.factor) * x[i] + f16(offset);
    }
}
