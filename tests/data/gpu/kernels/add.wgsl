// sum[i] = a[i] + b[i]
struct Parameters { n: u32 }
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> sum: array<f32>;
@group(0) @binding(3) var<uniform> p: Parameters;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let workgroup = (id.z * grid.y + id.y) * grid.x + id.x;
    let i = workgroup * 64u + local.x;
    if (i < p.n) {
        sum[i] = a[i] + b[i];
    }
}
